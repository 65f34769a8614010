package server

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	webhooksPerSecond = 50
	webhooksAtOnce    = 100
	// mostCallers bounds the addresses that are remembered. Further ones share a pace.
	mostCallers = 10_000
)

// pace bounds how often each address may call. It is safe for concurrent use.
type pace struct {
	now func() time.Time

	mu      sync.Mutex
	callers map[netip.Prefix]*caller
}

// caller has so many calls left, as of a time.
type caller struct {
	left float64
	at   time.Time
}

func newPace() *pace {
	return &pace{now: time.Now, callers: map[netip.Prefix]*caller{}}
}

// allows tells whether an address, HOST:PORT, may call now, and counts the call.
func (p *pace) allows(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	key := callerOf(address)
	one := p.callers[key]
	if one == nil && len(p.callers) >= mostCallers {
		p.forgetRested(now)
	}
	if one == nil && len(p.callers) >= mostCallers {
		key = netip.Prefix{}
		one = p.callers[key]
	}
	if one == nil {
		one = &caller{left: webhooksAtOnce, at: now}
		p.callers[key] = one
	}
	one.left, one.at = one.leftAt(now), now
	if one.left < 1 {
		return false
	}
	one.left--
	return true
}

func (c *caller) leftAt(now time.Time) float64 {
	return min(webhooksAtOnce, c.left+max(0, now.Sub(c.at).Seconds())*webhooksPerSecond)
}

// forgetRested forgets those who may call as often as one who never did.
func (p *pace) forgetRested(now time.Time) {
	for key, one := range p.callers {
		if one.leftAt(now) >= webhooksAtOnce {
			delete(p.callers, key)
		}
	}
}

// callerOf is the address without its port, and of IPv6 the network, of which one machine has all addresses.
func callerOf(address string) netip.Prefix {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits) // the bits fit
	return prefix
}

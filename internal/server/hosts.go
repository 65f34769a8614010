package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

// hosts are the names that the server goes by.
type hosts struct {
	// local is the HOST:PORT to reach the server on this machine.
	local string
	// names are the allowed host names, without a port: it is the name that a foreign DNS entry
	// could forge, and a forwarded port is no reason to refuse.
	names []string
	// advertised is the HOST:PORT of advertise_url, as browsers write it; empty for none.
	advertised string
	// any tells that the server listens on all addresses of the machine.
	any bool
}

func newHosts(address string, actual net.Addr, advertiseURL string) (*hosts, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("server.listen: %q is not HOST:PORT", address)
	}
	_, port, _ := net.SplitHostPort(actual.String())
	h := &hosts{names: []string{"localhost", "127.0.0.1", "::1"}}
	reach := name
	if ip, err := netip.ParseAddr(name); name == "" || err == nil && ip.IsUnspecified() {
		h.any, reach = true, "127.0.0.1"
	} else {
		h.add(name)
	}
	h.local = net.JoinHostPort(reach, port)
	if advertiseURL != "" {
		advertised, err := url.Parse(advertiseURL)
		if err != nil || advertised.Hostname() == "" {
			return nil, fmt.Errorf("server.advertise_url: %q is not a URL such as https://cyclonetix.example.org", advertiseURL)
		}
		h.advertised = strings.ToLower(advertised.Host)
		h.add(advertised.Hostname())
	}
	return h, nil
}

func (h *hosts) add(name string) {
	if name = normalName(name); !slices.Contains(h.names, name) {
		h.names = append(h.names, name)
	}
}

// refuseForeign answers only requests that were meant for this server.
func (h *hosts) refuseForeign(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		if !h.allowsHost(request) {
			return h.refusal("Host", request.Host)
		}
		for _, origin := range request.Header.Values("Origin") {
			if !h.allowsOrigin(request, origin) {
				return h.refusal("Origin", origin)
			}
		}
		return next(c)
	}
}

func (h *hosts) allowsHost(request *http.Request) bool {
	name := request.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = normalName(strings.Trim(name, "[]"))
	if slices.Contains(h.names, name) {
		return true
	}
	// On all addresses, the one that the request came in on is ours, too. It is a number, so no DNS entry forges it.
	local, ok := request.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return h.any && ok && name == normalName(local.IP.String())
}

// allowsOrigin wants the very host and port that the request goes to: another port is another site.
func (h *hosts) allowsOrigin(request *http.Request, origin string) bool {
	from, err := url.Parse(origin)
	if err != nil || from.Host == "" || from.Scheme != "http" && from.Scheme != "https" {
		return false
	}
	host := strings.ToLower(from.Host)
	return host == strings.ToLower(request.Host) || h.advertised != "" && host == h.advertised
}

func (h *hosts) refusal(header, value string) *api.Error {
	allowed := slices.Clone(h.names)
	if h.any {
		allowed = append(allowed, "the addresses of this machine")
	}
	hint := "reach the server under one of these names, or set server.advertise_url to the one that you use"
	if header == "Origin" {
		hint = "only pages of this server itself may use it from a browser; for pages under another name set server.advertise_url"
	}
	return &api.Error{
		Status: http.StatusForbidden, Code: api.CodeForbidden,
		Message: fmt.Sprintf("the %s %q is not this server's", header, value),
		Details: &api.Details{Field: header, Allowed: allowed, Hint: hint},
	}
}

// normalName is a host name as it is compared.
func normalName(name string) string {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

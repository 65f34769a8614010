package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// checkLoopback wants an address that only this machine reaches: profiles tell everything.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:6060", address)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is no loopback address, such as 127.0.0.1:6060", address)
	}
	return nil
}

// startDebug serves profiles until the context ends.
func (s *stack) startDebug(ctx context.Context) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", s.debugListen)
	if err != nil {
		return fmt.Errorf("--debug-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	debug := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.part(func() error {
		if err := debug.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve profiles: %w", err)
		}
		return nil
	})
	s.part(func() error {
		<-ctx.Done()
		return debug.Close() //nolint:wrapcheck // nothing can be done
	})
	s.logger.Info("profiles are served", "address", listener.Addr().String())
	return nil
}

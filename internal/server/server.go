package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/schemas"
)

const (
	// maxBody is the largest body of a request.
	maxBody = 1 << 20
	// shutdownTime is how long requests in flight may take when the server stops.
	shutdownTime = 900 * time.Millisecond
	// readTimeout bounds the reading of a request.
	readHeaderTimeout, readTimeout, idleTimeout = 10 * time.Second, 30 * time.Second, 2 * time.Minute
)

// Options say what a Server serves, and where.
type Options struct {
	Service api.Service
	// Triggers answers calls of webhooks; nil for a server that takes none.
	Triggers api.Triggers
	// Address is what the listener was asked for: its host is one that requests may name.
	Address string
	// AdvertiseURL is where others reach the server, when that is not the address; it may be empty.
	AdvertiseURL string
	// Title of the page, and how often it is refreshed.
	Title   string
	Refresh time.Duration
	// Metrics are served under MetricsPath; nil for none.
	Metrics     *Metrics
	MetricsPath string
	Logger      *slog.Logger
}

// Server is an HTTP server that listens.
type Server struct {
	options  Options
	listener net.Listener
	hosts    *hosts
	page     *page
	echo     *echo.Echo
	// stopping is closed when the server stops: streams end then.
	stopping chan struct{}
}

// ErrAddressInUse tells that another process listens on the address.
var ErrAddressInUse = errors.New("address in use")

// Listen opens an address, as HOST:PORT; port 0 takes a free one. The error is ErrAddressInUse when
// another process has it.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: %w by another process", address, ErrAddressInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// New makes a server that answers at the listener. Serve must be called, or Close.
func New(listener net.Listener, options Options) (*Server, error) {
	s := &Server{options: options, listener: listener, stopping: make(chan struct{})}
	var err error
	if s.hosts, err = newHosts(options.Address, listener.Addr(), options.AdvertiseURL); err == nil {
		s.page, err = newPage(options)
	}
	if err != nil {
		return nil, err
	}
	s.echo = s.routes()
	return s, nil
}

// URL is where the server is reached on this machine.
func (s *Server) URL() string { return "http://" + s.hosts.local }

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.echo }

// Close closes a server that does not serve.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers requests until the context ends; then it is down in less than a second.
func (s *Server) Serve(ctx context.Context) error {
	server := &http.Server{
		Handler: s.echo, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(s.listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", s.URL(), err)
	case <-ctx.Done():
	}
	close(s.stopping)
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if server.Shutdown(shutdown) != nil {
		_ = server.Close() // what is still in flight is cut off
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.URL(), err)
	}
	return nil
}

func (s *Server) routes() *echo.Echo {
	e := echo.New()
	e.HTTPErrorHandler = s.answerError
	e.JSONSerializer = strictJSON{}
	e.Use(s.options.Metrics.observe, s.recoverPanic, secureHeaders, s.hosts.refuseForeign, limitBody)

	e.GET("/", s.page.runs)
	e.GET("/runs/:id", s.page.run)
	e.GET("/task-runs/:id/log", s.page.log)
	e.GET("/static/*", static())
	e.GET("/schemas/*", filesOf(schemas.Files)) // for editors
	if s.options.Metrics != nil {
		e.GET(s.options.MetricsPath, s.options.Metrics.handler())
	}

	h := &handlers{service: s.options.Service, stopping: s.stopping}
	g := e.Group("/api")
	g.POST("/schedule-task", h.scheduleTask)
	g.POST("/schedule-dag", h.scheduleDAG)
	g.POST("/plan", h.plan)
	g.GET("/tasks", h.tasks)
	g.GET("/dags", h.dags)
	g.GET("/contexts", h.contexts)
	g.GET("/parameter-sets", h.parameterSets)
	g.POST("/backfill", h.backfill)
	g.GET("/runs", h.runs)
	g.GET("/runs/:id", h.run)
	g.GET("/runs/:id/graph", h.graph)
	g.GET("/runs/:id/events", h.events)
	for _, action := range api.RunActions {
		g.POST("/runs/:id/"+string(action), h.controlRun(action))
	}
	for _, action := range api.TaskActions {
		g.POST("/task-runs/:id/"+string(action), h.controlTask(action))
	}
	g.POST("/rerun/:id", h.rerun)
	g.POST("/cancel-run/:id", h.cancelRun)
	g.GET("/task-runs/:id/logs", h.logs)
	g.GET("/tasks/:id/logs", h.logs)
	g.GET("/health", h.health)
	if s.options.Triggers != nil {
		g.POST("/triggers/:id", (&triggers{s.options.Triggers, newPace()}).webhook)
	}
	return e
}

// recoverPanic turns a panic of a handler into an internal error, and logs where it came from.
func (s *Server) recoverPanic(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if cause := recover(); cause != nil {
				s.options.Logger.Error("a request panicked", "stack", string(debug.Stack()))
				err = fmt.Errorf("the handler panicked: %v", cause)
			}
		}()
		return next(c)
	}
}

// secureHeaders lets a browser load nothing from elsewhere, and nobody frame or sniff what it got.
func secureHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !strings.HasPrefix(c.Request().URL.Path, "/static/") {
			header.Set("Cache-Control", "no-store")
		}
		return next(c)
	}
}

// limitBody makes a body over maxBody an error when it is read.
func limitBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		if request.ContentLength > maxBody {
			return tooLarge(maxBody)
		}
		request.Body = http.MaxBytesReader(c.Response(), request.Body, maxBody)
		return next(c)
	}
}

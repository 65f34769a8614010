package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

const (
	// beat is how often an idle stream sends a comment, so that nothing between takes it for dead.
	beat = 15 * time.Second
	// sendTime bounds how long a client may take to read what was sent.
	sendTime = 10 * time.Second
)

// followLogs sends a log as server-sent events: an event "log" for each entry, whose id is its place,
// then one "end" when the task run has ended. A client that was cut off goes on where it was by the
// header Last-Event-ID, which browsers send by themselves.
func (h *handlers) followLogs(c echo.Context, query *api.LogQuery) error {
	if last := c.Request().Header.Get("Last-Event-ID"); last != "" {
		query.After, query.Tail = last, 0
	}
	ctx, cancel := context.WithCancelCause(c.Request().Context())
	defer cancel(nil)
	events := &eventStream{response: c.Response(), control: http.NewResponseController(c.Response())}
	entries := make(chan api.LogEntry)
	done := make(chan error, 1)
	go func() {
		done <- h.service.FollowLogs(ctx, id(c), query, func(entry api.LogEntry) error {
			select {
			case entries <- entry:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		var err error
		select {
		case entry := <-entries:
			err = events.send("log", entry.Place, entry)
		case err := <-done:
			return events.finish(err)
		case <-tick.C:
			err = events.comment()
		case <-h.stopping:
			err = errStopping
		}
		if err != nil {
			cancel(err)
			if ended := <-done; ended == nil && errors.Is(err, errStopping) {
				err = nil // it was at its end anyway
			}
			return events.finish(err)
		}
	}
}

var errStopping = errors.New("the server stops")

// eventStream writes server-sent events. Its head goes out with the first one.
type eventStream struct {
	response *echo.Response
	control  *http.ResponseController
	open     bool
}

func (s *eventStream) send(event, id string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", event, err)
	}
	text := "event: " + event + "\n"
	if id != "" {
		text += "id: " + id + "\n"
	}
	return s.write(text + "data: " + string(body) + "\n\n")
}

func (s *eventStream) comment() error { return s.write(": still there\n\n") }

func (s *eventStream) write(text string) error {
	if !s.open {
		s.open = true
		header := s.response.Header()
		header.Set(echo.HeaderContentType, "text/event-stream")
		header.Set("X-Accel-Buffering", "no")
		s.response.WriteHeader(http.StatusOK)
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(sendTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("send event: %w", err)
	}
	if _, err := s.response.Write([]byte(text)); err != nil {
		return fmt.Errorf("send event: %w", err)
	}
	return s.control.Flush()
}

// finish says how the stream ended. An error before the first event is an ordinary answer; one after
// it breaks the stream off, and the client comes back.
func (s *eventStream) finish(err error) error {
	if err == nil {
		return s.send("end", "", struct{}{})
	}
	if errors.Is(err, errStopping) && !s.open {
		return &api.Error{Status: http.StatusServiceUnavailable, Code: api.CodeUnavailable, Message: "the server stops"}
	}
	return err
}

package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

const (
	// reconnects is how often in a row a stream that broke is taken up again, and reconnectPause the
	// time between.
	reconnects     = 10
	reconnectPause = time.Second
)

// FollowLogs implements api.Service. A stream that breaks is taken up again where it was.
func (c *Client) FollowLogs(ctx context.Context, taskRun string, query *api.LogQuery, emit func(api.LogEntry) error) error {
	values := logValues(query)
	values.Set("follow", "true")
	last := ""
	for failures := 0; ; {
		before := last
		err := c.follow(ctx, taskRun, values, &last, emit)
		var answer *api.Error
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &answer) && (answer.Status != http.StatusServiceUnavailable || last == ""):
			return err // refused, or never reached
		case !errors.As(err, &answer) && !errors.Is(err, errBroken):
			return err // of emit
		}
		if failures++; last != before {
			failures = 1
		}
		if failures > reconnects {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(reconnectPause):
		}
	}
}

// errBroken tells that a stream ended before its end was told.
var errBroken = errors.New("the log's stream broke off")

// follow reads one stream; last is the place of the last entry that came.
func (c *Client) follow(ctx context.Context, taskRun string, values url.Values, last *string, emit func(api.LogEntry) error) error {
	header := http.Header{}
	if *last != "" {
		header.Set("Last-Event-ID", *last)
	}
	response, err := c.send(ctx, call{
		method: http.MethodGet, path: []string{"task-runs", taskRun, "logs"}, query: values, accept: "text/event-stream", header: header,
	})
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewReaderSize(response.Body, 64<<10)
	var event, data string
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: %w", errBroken, err)
			}
			return errBroken
		}
		line = strings.TrimRight(line, "\r\n")
		switch name, value, _ := strings.Cut(line, ":"); {
		case line == "" && event == "end":
			return nil
		case line == "" && event == "log":
			var entry api.LogEntry
			if err := json.Unmarshal([]byte(data), &entry); err != nil {
				return fmt.Errorf("read a log entry: %w", err)
			}
			if err := emit(entry); err != nil {
				return err
			}
			*last = entry.Place
			event, data = "", ""
		case name == "event":
			event = strings.TrimPrefix(value, " ")
		case name == "data":
			data = strings.TrimPrefix(value, " ")
		}
	}
}

func logValues(query *api.LogQuery) url.Values {
	values := url.Values{}
	set(values, "after", query.After)
	if query.Tail != 0 {
		values.Set("tail", strconv.Itoa(query.Tail))
	}
	setTime(values, "since", query.Since)
	return values
}

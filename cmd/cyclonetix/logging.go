package main

import (
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"

	"github.com/cyclonetix/cyclonetix/internal/config"
)

// newLogger makes the log of a server, as the configuration wants it.
func newLogger(settings *config.Config, errs io.Writer) (logger *slog.Logger, done func(), err error) {
	own := settings.Logging
	to := errs
	done = func() {}
	switch {
	case own.Syslog:
		log, err := syslog.New(syslog.LOG_INFO|syslog.LOG_DAEMON, "cyclonetix")
		if err != nil {
			return nil, nil, fmt.Errorf("logging.syslog: %w", err)
		}
		to, done = log, func() { _ = log.Close() }
	case own.File != "":
		file, err := os.OpenFile(own.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("logging.file: %w", err)
		}
		to, done = file, func() { _ = file.Close() }
	}
	options := &slog.HandlerOptions{Level: levels[own.Level]}
	if own.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, options)), done, nil
	}
	return slog.New(slog.NewTextHandler(to, options)), done, nil
}

// levels are the values of logging.level.
var levels = map[string]slog.Level{
	"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

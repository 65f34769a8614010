package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// SQLSTATEs of our own functions.
const (
	stateFenced   = "CY001"
	stateRowCount = "CY002"
)

// interpretError turns an error of the driver into one of ours: it is the one
// place that knows SQLSTATEs. The driver's error stays in the chain.
func interpretError(err error) error {
	var pgError *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, engine.ErrAgentLost), errors.Is(err, pgx.ErrNoRows):
		return err
	case !errors.As(err, &pgError):
		if pgconn.SafeToRetry(err) {
			return err
		}
		return fmt.Errorf("%w: %w", engine.ErrUncertain, err)
	case pgError.Code == stateFenced:
		return fmt.Errorf("%w: %w", engine.ErrFenced, err)
	case pgError.Code == "23505" && pgError.TableName == "run_names":
		return fmt.Errorf("%w: %w", engine.ErrNameTaken, err)
	case isMissingPartition(err):
		return err
	case pgError.Code == stateRowCount, strings.HasPrefix(pgError.Code, "22"), strings.HasPrefix(pgError.Code, "23"), strings.HasPrefix(pgError.Code, "54"):
		return fmt.Errorf("%w: %w", engine.ErrRefused, err)
	case strings.HasPrefix(pgError.Code, "08"), strings.HasPrefix(pgError.Code, "57P"):
		// The server goes down: it may have committed before it said so.
		return fmt.Errorf("%w: %w", engine.ErrUncertain, err)
	}
	return err
}

// isMissingPartition tells that a row fits no partition: time went past those that were made ahead.
func isMissingPartition(err error) bool {
	var pgError *pgconn.PgError
	return errors.As(err, &pgError) && pgError.Code == "23514" && strings.HasPrefix(pgError.Message, "no partition of relation")
}

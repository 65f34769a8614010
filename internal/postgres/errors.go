package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// SQLSTATEs of our own functions.
const (
	stateFenced   = "CY001"
	stateRowCount = "CY002"
	stateOutdated = "CY003"
)

// refusedClasses are the classes of SQLSTATEs that speak of the content: cardinality (a row given twice),
// data, integrity, and limits of the program.
var refusedClasses = []string{"21", "22", "23", "54"}

// isOurs tells that the error says already what it means to a caller.
func isOurs(err error) bool {
	for _, known := range []error{
		engine.ErrAgentLost, engine.ErrFenced, engine.ErrUncertain, engine.ErrRefused, engine.ErrNameTaken, engine.ErrNotFound,
		engine.ErrWriterExists, engine.ErrTooManyPending, engine.ErrSchemaNewer, engine.ErrEnded, engine.ErrGone, engine.ErrOutdated,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// isConnectError tells that no connection came about.
func isConnectError(err error) bool {
	var connectError *pgconn.ConnectError
	return errors.As(err, &connectError)
}

// interpretError turns an error of the driver into one of ours: it is the one
// place that knows SQLSTATEs. The driver's error stays in the chain.
func interpretError(err error) error {
	var pgError *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case isOurs(err), errors.Is(err, pgx.ErrNoRows):
		return err
	case isConnectError(err):
		// Nothing was sent, whatever the server said.
		return err
	case !errors.As(err, &pgError):
		if pgconn.SafeToRetry(err) {
			return err
		}
		return fmt.Errorf("%w: %w", engine.ErrUncertain, err)
	case pgError.Code == stateFenced:
		return fmt.Errorf("%w: %w", engine.ErrFenced, err)
	case pgError.Code == stateOutdated:
		return fmt.Errorf("%w: %w", engine.ErrOutdated, err)
	case pgError.Code == "23505" && pgError.TableName == "run_names":
		return fmt.Errorf("%w: %w", engine.ErrNameTaken, err)
	case isMissingPartition(err):
		return err
	case pgError.Code == stateRowCount, slices.Contains(refusedClasses, pgError.Code[:min(2, len(pgError.Code))]):
		return fmt.Errorf("%w: %w", engine.ErrRefused, err)
	case strings.HasPrefix(pgError.Code, "08"), strings.HasPrefix(pgError.Code, "57P"):
		// The server goes down: it may have committed before it said so.
		return fmt.Errorf("%w: %w", engine.ErrUncertain, err)
	}
	return err
}

// isLiveAgent tells that an agent of that name is registered.
func isLiveAgent(err error) bool {
	var pgError *pgconn.PgError
	return errors.As(err, &pgError) && pgError.ConstraintName == "agents_live"
}

// isMissingPartition tells that a row fits no partition: time went past those that were made ahead.
func isMissingPartition(err error) bool {
	var pgError *pgconn.PgError
	return errors.As(err, &pgError) && pgError.Code == "23514" && strings.HasPrefix(pgError.Message, "no partition of relation")
}

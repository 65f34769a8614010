// Package db holds the statements of the Postgres backend, generated from queries/.
package db

import "github.com/jackc/pgx/v5/pgtype"

// UUID is a uuid of the database. It has the driver's own methods, which a
// [16]byte of another name lacks: without them every element of an array would
// go through reflection.
type UUID [16]byte

// UUIDValue implements pgtype.UUIDValuer.
func (u UUID) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: u, Valid: true}, nil }

// ScanUUID implements pgtype.UUIDScanner. A null is the zero UUID.
func (u *UUID) ScanUUID(value pgtype.UUID) error {
	*u = value.Bytes
	return nil
}

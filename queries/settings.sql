-- name: GetSetting :one
SELECT value FROM cyclonetix__state.settings WHERE name = @name;

-- name: GetTime :one
SELECT clock_timestamp()::timestamptz AS now;

-- name: EnsurePartition :one
SELECT cyclonetix__state.ensure_partition(@parent, @suffix, @lower_bound, @upper_bound, @options)::boolean AS made;

-- name: ListPartitions :one
SELECT cyclonetix__state.partitions(@parent)::text AS partitions;

-- name: TryLock :one
SELECT pg_try_advisory_lock(@key::bigint) AS locked;

-- name: Unlock :one
SELECT pg_advisory_unlock(@key::bigint) AS unlocked;

-- name: TryTransactionLock :one
SELECT pg_try_advisory_xact_lock(@key::bigint) AS locked;

-- name: Notify :exec
SELECT pg_notify(@channel, @payload);

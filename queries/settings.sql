-- name: GetSetting :one
SELECT value FROM cyclonetix__state.settings WHERE name = @name;

-- name: GetTime :one
SELECT clock_timestamp()::timestamptz AS now;

-- name: EnsurePartition :one
SELECT cyclonetix__state.ensure_partition(@parent, @suffix, @lower_bound, @upper_bound, @options)::boolean AS made;

-- name: ListPartitions :one
SELECT cyclonetix__state.partitions(@parent)::text AS partitions;

-- name: ListLooseTables :many
-- The tables of a schema that are no partitions. Of one that was, a constraint tells the range.
SELECT c.relname::text AS name,
       coalesce((SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_catalog.pg_constraint k
                 WHERE k.conrelid = c.oid AND k.contype = 'c'), '')::text AS constraints
FROM pg_catalog.pg_class c
WHERE c.relnamespace = to_regnamespace(@schema::text) AND c.relkind = 'r' AND NOT c.relispartition
ORDER BY c.relname;

-- name: TryLock :one
SELECT pg_try_advisory_lock(@key::bigint) AS locked;

-- name: Unlock :one
SELECT pg_advisory_unlock(@key::bigint) AS unlocked;

-- name: TryTransactionLock :one
SELECT pg_try_advisory_xact_lock(@key::bigint) AS locked;

-- name: Notify :exec
SELECT pg_notify(@channel, @payload);

-- name: RaiseSetting :exec
-- Times in RFC 3339 and UTC are in the order of their texts.
INSERT INTO cyclonetix__state.settings AS s (name, value) VALUES (@name, @value)
ON CONFLICT (name) DO UPDATE SET value = greatest(s.value, excluded.value);

-- name: SetSetting :exec
INSERT INTO cyclonetix__state.settings AS s (name, value) VALUES (@name, @value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE s.value <> excluded.value;

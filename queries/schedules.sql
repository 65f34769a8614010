-- name: ListSchedules :many
SELECT dag_id, last_date FROM cyclonetix__state.schedules ORDER BY dag_id;

-- name: WriteSchedules :exec
-- In order of the key, so that two who write the same do not deadlock.
INSERT INTO cyclonetix__state.schedules AS s (dag_id, last_date)
SELECT u.dag_id, max(u.last_date)
FROM ROWS FROM (unnest(@dag_ids::text[]), unnest(@last_dates::timestamptz[])) AS u (dag_id, last_date)
GROUP BY u.dag_id ORDER BY u.dag_id
ON CONFLICT (dag_id) DO UPDATE SET last_date = excluded.last_date WHERE s.last_date < excluded.last_date;

-- name: ListKnownDates :many
-- Which of the dates have a run that is stored, and which have succeeded. A run is made after the time that it is for, so
-- that of a new date is looked for in the newest partitions only: one look into the index of dates of each.
SELECT d.dag_id, d.logical_date::timestamptz AS logical_date, true AS succeeded
FROM ROWS FROM (unnest(@dag_ids::text[]), unnest(@logical_dates::timestamptz[])) AS u (dag_id, logical_date),
     LATERAL (SELECT * FROM cyclonetix__state.dates d WHERE d.dag_id = u.dag_id AND d.logical_date = u.logical_date LIMIT 1) d
UNION ALL
SELECT u.dag_id::text, u.logical_date::timestamptz, false
FROM ROWS FROM (unnest(@dag_ids::text[]), unnest(@logical_dates::timestamptz[])) AS u (dag_id, logical_date),
     LATERAL (SELECT true AS there FROM cyclonetix__state.runs r
              WHERE r.dag_id = u.dag_id AND r.logical_date = u.logical_date AND r.run_id >= @least LIMIT 1) r;

-- name: FindLatestDate :one
-- The newest date of a DAG before one, that has a run which is stored or has succeeded; year 1 for none. It is one look into
-- the index of dates of each partition: however long the history, it is not read.
SELECT greatest(
    (SELECT d.logical_date FROM cyclonetix__state.dates d WHERE d.dag_id = @dag_id AND d.logical_date < @before::timestamptz
     ORDER BY d.logical_date DESC LIMIT 1),
    (SELECT r.logical_date FROM cyclonetix__state.runs r WHERE r.dag_id = @dag_id AND r.logical_date < @before::timestamptz
     ORDER BY r.logical_date DESC LIMIT 1),
    '0001-01-01 00:00:00+00')::timestamptz AS latest;

-- name: ListSchedules :many
SELECT dag_id, last_date FROM cyclonetix__state.schedules ORDER BY dag_id;

-- name: WriteSchedules :exec
-- In order of the key, so that two who write the same do not deadlock.
INSERT INTO cyclonetix__state.schedules AS s (dag_id, last_date)
SELECT u.dag_id, max(u.last_date)
FROM ROWS FROM (unnest(@dag_ids::text[]), unnest(@last_dates::timestamptz[])) AS u (dag_id, last_date)
GROUP BY u.dag_id ORDER BY u.dag_id
ON CONFLICT (dag_id) DO UPDATE SET last_date = excluded.last_date WHERE s.last_date < excluded.last_date;

-- name: HasDate :one
SELECT EXISTS (SELECT FROM cyclonetix__state.dates WHERE dag_id = @dag_id AND logical_date = @logical_date::timestamptz)::boolean AS has;

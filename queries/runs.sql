-- name: InsertRunNames :exec
INSERT INTO cyclonetix__state.run_names (kind, name, run_id)
SELECT * FROM ROWS FROM (unnest(@kinds::smallint[]), unnest(@names::text[]), unnest(@run_ids::uuid[])) AS u (kind, name, run_id);

-- name: FindRunByName :one
SELECT run_id FROM cyclonetix__state.run_names WHERE kind = @kind AND name = @name;

-- name: InsertRuns :exec
INSERT INTO cyclonetix__state.runs (run_id, plan, revision, created_at, by_outcome, dag_id, name, context, actor, cause, run_values)
SELECT u.run_id, u.plan, u.revision, @created_at::timestamptz, u.by_outcome, u.dag_id, nullif(u.name, ''), nullif(u.context, ''),
       u.actor, u.cause, nullif(u.run_values, '')::json
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@plans::uuid[]), unnest(@revisions::bigint[]), unnest(@by_outcomes::boolean[]),
                unnest(@dag_ids::text[]), unnest(@names::text[]), unnest(@contexts::text[]), unnest(@actors::text[]),
                unnest(@causes::text[]), unnest(@run_values::text[]))
     AS u (run_id, plan, revision, by_outcome, dag_id, name, context, actor, cause, run_values);

-- name: InsertRunStates :exec
INSERT INTO cyclonetix__state.run_states (run_id, status, task_count, completed_tasks, failed_tasks)
SELECT u.run_id, 0, u.task_count, 0, 0
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@task_counts::integer[])) AS u (run_id, task_count);

-- name: InsertLiveRuns :exec
INSERT INTO cyclonetix__state.live_runs (bucket, run_id)
SELECT * FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@run_ids::uuid[])) AS u (bucket, run_id);

-- name: WriteRunStates :exec
-- An upsert and no UPDATE ... FROM, because the latter's join becomes a scan on a young partition.
-- A row that was made instead of written is an error: its run was never submitted.
-- Times are microseconds since 1970, 0 for none.
WITH written AS (
    INSERT INTO cyclonetix__state.run_states AS s
        (run_id, status, task_count, completed_tasks, failed_tasks, start_time, end_time, cancel_time)
    SELECT (@run_ids::uuid[])[i], (@statuses::smallint[])[i], (@task_counts::integer[])[i], (@completed_tasks::integer[])[i],
           (@failed_tasks::integer[])[i],
           CASE WHEN (@start_times::bigint[])[i] <> 0 THEN to_timestamp((@start_times::bigint[])[i] / 1e6::float8) END,
           CASE WHEN (@end_times::bigint[])[i] <> 0 THEN to_timestamp((@end_times::bigint[])[i] / 1e6::float8) END,
           CASE WHEN (@cancel_times::bigint[])[i] <> 0 THEN to_timestamp((@cancel_times::bigint[])[i] / 1e6::float8) END
    FROM generate_series(1, @wanted::integer) AS i
    ON CONFLICT (run_id) DO UPDATE
    SET status = excluded.status, task_count = excluded.task_count, completed_tasks = excluded.completed_tasks,
        failed_tasks = excluded.failed_tasks, start_time = excluded.start_time, end_time = excluded.end_time,
        cancel_time = excluded.cancel_time, writes = s.writes + 1
    WHERE s.status < 10
    RETURNING s.writes
)
SELECT cyclonetix__state.expect_rows('run states', @wanted::integer, count(*) FILTER (WHERE writes > 0)) FROM written;

-- name: DeleteLiveRuns :exec
-- The lateral subquery keeps its LIMIT, so it stays a look-up by key for each run.
DELETE FROM cyclonetix__state.live_runs
WHERE ctid = ANY (ARRAY(
    SELECT l.ctid
    FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@run_ids::uuid[])) AS u (bucket, run_id),
         LATERAL (SELECT ctid FROM cyclonetix__state.live_runs l WHERE l.bucket = u.bucket AND l.run_id = u.run_id LIMIT 1) l
));

-- name: ListLiveRuns :many
SELECT run_id FROM cyclonetix__state.live_runs
WHERE bucket = @bucket AND run_id > @after
ORDER BY bucket, run_id LIMIT @most;

-- name: CountLiveRunsBetween :one
SELECT count(*) FROM cyclonetix__state.live_runs WHERE run_id >= @lower_bound AND run_id < @upper_bound;

-- name: LoadRuns :many
SELECT r.run_id, r.dag_id, r.plan, (r.name IS NOT NULL OR r.run_values IS NOT NULL)::boolean AS has_values,
       s.status, s.start_time, s.cancel_time
FROM unnest(@run_ids::uuid[]) AS u (run_id),
     LATERAL (SELECT * FROM cyclonetix__state.runs r WHERE r.run_id = u.run_id LIMIT 1) r,
     LATERAL (SELECT * FROM cyclonetix__state.run_states s WHERE s.run_id = u.run_id LIMIT 1) s
WHERE s.status < 10;

-- name: LoadRunInfos :many
SELECT r.run_id, r.dag_id, r.name, r.run_values
FROM unnest(@run_ids::uuid[]) AS u (run_id),
     LATERAL (SELECT * FROM cyclonetix__state.runs r WHERE r.run_id = u.run_id LIMIT 1) r;

-- name: RefuseRun :exec
UPDATE cyclonetix__state.run_states
SET status = 11, start_time = coalesce(start_time, @at::timestamptz), end_time = greatest(start_time, @at::timestamptz), reason = @reason
WHERE run_id = @run_id AND status < 10;

-- name: CancelUnendedTaskRuns :exec
UPDATE cyclonetix__state.task_runs
SET status = 14, cause = 10, end_time = greatest(start_time, @at::timestamptz)
WHERE run_id = @run_id AND status < 10;

-- name: InsertRunEvents :exec
INSERT INTO cyclonetix__state.run_events (run_id, at, kind, actor)
SELECT * FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@ats::timestamptz[]), unnest(@kinds::text[]), unnest(@actors::text[]))
       AS u (run_id, at, kind, actor);

-- name: DeleteRunNames :execrows
DELETE FROM cyclonetix__state.run_names WHERE run_id >= @lower_bound AND run_id < @upper_bound;

-- name: InsertRunNames :exec
INSERT INTO cyclonetix__state.run_names (kind, name, run_id)
SELECT * FROM ROWS FROM (unnest(@kinds::smallint[]), unnest(@names::text[]), unnest(@run_ids::uuid[])) AS u (kind, name, run_id);

-- name: ListRunsByName :many
SELECT run_id, name FROM cyclonetix__state.run_names WHERE kind = @kind AND name = ANY (@names::text[]);

-- name: FreeRunName :exec
-- The name of a run that retention has taken out of sight, and whose names it has yet to delete.
DELETE FROM cyclonetix__state.run_names n
WHERE n.kind = @kind AND n.name = @name AND n.run_id = @run_id AND NOT EXISTS (SELECT FROM cyclonetix__state.runs r WHERE r.run_id = @run_id);

-- name: FindRunByName :one
SELECT run_id FROM cyclonetix__state.run_names WHERE kind = @kind AND name = @name;

-- name: InsertRuns :exec
INSERT INTO cyclonetix__state.runs (run_id, plan, revision, created_at, by_outcome, dag_id, name, context, actor, cause, run_values,
    sensitive_values, options, logical_date, rerun_of, request)
SELECT u.run_id, u.plan, u.revision, @created_at::timestamptz, u.by_outcome, u.dag_id, nullif(u.name, ''), nullif(u.context, ''),
       u.actor, u.cause, nullif(u.run_values, '')::json, nullif(u.sensitive_values, '')::json, nullif(u.options, '')::json,
       nullif(u.logical_date, '0001-01-01 00:00:00+00'), nullif(u.rerun_of, '00000000-0000-0000-0000-000000000000'), u.request::json
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@plans::uuid[]), unnest(@revisions::bigint[]), unnest(@by_outcomes::boolean[]),
                unnest(@dag_ids::text[]), unnest(@names::text[]), unnest(@contexts::text[]), unnest(@actors::text[]),
                unnest(@causes::text[]), unnest(@run_values::text[]), unnest(@sensitive_values::text[]), unnest(@options::text[]),
                unnest(@logical_dates::timestamptz[]), unnest(@rerun_ofs::uuid[]), unnest(@requests::text[]))
     AS u (run_id, plan, revision, by_outcome, dag_id, name, context, actor, cause, run_values, sensitive_values, options, logical_date, rerun_of, request);

-- name: InsertRunStates :exec
INSERT INTO cyclonetix__state.run_states (run_id, status, task_count, completed_tasks, failed_tasks)
SELECT u.run_id, 0, u.task_count, 0, 0
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@task_counts::integer[])) AS u (run_id, task_count);

-- name: InsertLiveRuns :exec
INSERT INTO cyclonetix__state.live_runs (bucket, run_id)
SELECT * FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@run_ids::uuid[])) AS u (bucket, run_id);

-- name: WriteRunStates :exec
-- An upsert and no UPDATE ... FROM, because the latter's join becomes a scan on a young partition.
-- A row that was made instead of written is an error: its run was never submitted. What is checked is the row as it will be,
-- with its own "reopened", and before that the one that would be made, which must not fail for that.
-- Times are microseconds since 1970, 0 for none.
WITH written AS (
    INSERT INTO cyclonetix__state.run_states AS s
        (run_id, status, task_count, completed_tasks, failed_tasks, start_time, end_time, cancel_time, reopened)
    SELECT (@run_ids::uuid[])[i], (@statuses::smallint[])[i], (@task_counts::integer[])[i], (@completed_tasks::integer[])[i],
           (@failed_tasks::integer[])[i],
           CASE WHEN (@start_times::bigint[])[i] <> 0 THEN to_timestamp((@start_times::bigint[])[i] / 1e6::float8) END,
           CASE WHEN (@end_times::bigint[])[i] <> 0 THEN to_timestamp((@end_times::bigint[])[i] / 1e6::float8) END,
           CASE WHEN (@cancel_times::bigint[])[i] <> 0 THEN to_timestamp((@cancel_times::bigint[])[i] / 1e6::float8) END, true
    FROM generate_series(1, @wanted::integer) AS i
    ON CONFLICT (run_id) DO UPDATE
    SET status = excluded.status, task_count = excluded.task_count, completed_tasks = excluded.completed_tasks,
        failed_tasks = excluded.failed_tasks, start_time = excluded.start_time, end_time = excluded.end_time,
        cancel_time = excluded.cancel_time, writes = s.writes + 1
    WHERE s.status < 10
    RETURNING s.writes
)
SELECT cyclonetix__state.expect_rows('run states', @wanted::integer, count(*) FILTER (WHERE writes > 0)) FROM written;

-- name: DescribeRunStates :exec
-- What few runs have: after WriteRunStates in the same commit, whose rows these are.
WITH written AS (
    INSERT INTO cyclonetix__state.run_states AS s (run_id, status, task_count, completed_tasks, failed_tasks, stop, version, reason)
    SELECT u.run_id, 0, 0, 0, 0, u.stop, u.version, nullif(u.reason, '')
    FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@stops::smallint[]), unnest(@versions::integer[]), unnest(@reasons::text[]))
         AS u (run_id, stop, version, reason)
    ON CONFLICT (run_id) DO UPDATE
    SET stop = excluded.stop, version = excluded.version, reason = excluded.reason, writes = s.writes + 1
    WHERE s.version <= excluded.version
    RETURNING s.writes
)
SELECT cyclonetix__state.expect_rows('descriptions of run states', @wanted, count(*) FILTER (WHERE writes > 0)) FROM written;

-- name: ReopenRun :exec
-- Makes a run that has ended one that runs, before its new state is written. Who drops old runs takes them out of sight
-- first and looks for live ones then, so a run that is seen here stays.
WITH reopened AS (
    UPDATE cyclonetix__state.run_states s SET status = 1, end_time = NULL, reason = NULL, stop = 0, reopened = true
    WHERE s.run_id = @run_id AND s.status >= 10 AND EXISTS (SELECT FROM cyclonetix__state.runs r WHERE r.run_id = @run_id)
    RETURNING s.run_id
), living AS (
    INSERT INTO cyclonetix__state.live_runs (bucket, run_id) SELECT @bucket::smallint, o.run_id FROM reopened o RETURNING 1
)
SELECT cyclonetix__state.expect_rows('reopened runs', 1, count(*)) FROM living;

-- name: InsertRunUpdates :exec
INSERT INTO cyclonetix__state.run_updates (run_id, version, body, sensitive, node)
SELECT u.run_id, u.version, u.body::json, nullif(u.sensitive, '')::json, u.node
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@versions::integer[]), unnest(@bodies::text[]), unnest(@sensitives::text[]),
                unnest(@nodes::integer[])) AS u (run_id, version, body, sensitive, node);

-- name: ListRunUpdates :many
-- Those of which it is known what evaluation point they are of.
SELECT node::integer AS node, body, sensitive FROM cyclonetix__state.run_updates WHERE run_id = @run_id AND node IS NOT NULL ORDER BY version;

-- name: WriteDates :exec
-- In order of the key, so that two who write the same do not deadlock.
WITH written AS (
    INSERT INTO cyclonetix__state.dates AS d (dag_id, logical_date, run_id)
    SELECT r.dag_id, u.logical_date, u.run_id
    FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@logical_dates::timestamptz[])) AS u (run_id, logical_date),
         LATERAL (SELECT r.dag_id FROM cyclonetix__state.runs r
                  WHERE r.run_id = u.run_id AND r.run_id >= @least AND r.run_id <= @greatest LIMIT 1) r
    ORDER BY r.dag_id, u.logical_date
    ON CONFLICT (dag_id, logical_date) DO UPDATE SET run_id = excluded.run_id
    RETURNING 1
)
SELECT cyclonetix__state.expect_rows('logical dates', @wanted, count(*)) FROM written;

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

-- name: ListLiveRunsAmong :many
SELECT u.run_id::uuid AS run_id
FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@run_ids::uuid[])) AS u (bucket, run_id)
WHERE EXISTS (SELECT FROM cyclonetix__state.live_runs l WHERE l.bucket = u.bucket AND l.run_id = u.run_id);

-- name: CountLiveRunsBetween :one
SELECT count(*) FROM cyclonetix__state.live_runs WHERE run_id >= @lower_bound AND run_id < @upper_bound;

-- name: LoadRuns :many
-- Runs that have not ended, or that have. The bounds of the runs' ids let the server look into their partitions only, and each
-- lateral subquery keeps its LIMIT, so it stays a look-up by key for each run.
SELECT r.run_id, r.dag_id, r.plan, r.revision, r.options, (r.name IS NOT NULL OR r.run_values IS NOT NULL)::boolean AS has_values,
       s.status, s.start_time, s.cancel_time, s.stop, s.version, (g.grown IS NOT NULL)::boolean AS grown,
       (e.retried IS NOT NULL)::boolean AS retried
FROM unnest(@run_ids::uuid[]) AS u (run_id)
JOIN LATERAL (SELECT * FROM cyclonetix__state.runs r
              WHERE r.run_id = u.run_id AND r.run_id >= @least AND r.run_id <= @greatest LIMIT 1) r ON true
JOIN LATERAL (SELECT * FROM cyclonetix__state.run_states s
              WHERE s.run_id = u.run_id AND s.run_id >= @least AND s.run_id <= @greatest LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT true AS grown FROM cyclonetix__state.run_nodes g
                   WHERE g.run_id = u.run_id AND g.run_id >= @least AND g.run_id <= @greatest LIMIT 1) g ON true
-- Only who keeps what an earlier run did has to know of retries.
LEFT JOIN LATERAL (SELECT true AS retried FROM cyclonetix__state.run_events e
                   WHERE r.options -> 'kept' IS NOT NULL AND e.run_id = u.run_id AND e.run_id >= @least AND e.run_id <= @greatest AND e.kind = 'retry' LIMIT 1) e ON true
WHERE (s.status >= 10) = @ended::boolean;

-- name: LoadRunInfos :many
-- What agents and the writer need to know of runs, with what evaluation points changed. A known version is 0, or 1 more than that
-- which the caller knows of: then it gets only what came after it. The bounds are as above.
SELECT r.run_id, r.dag_id, r.name, r.revision, r.plan,
       (CASE WHEN u.known = 0 THEN r.run_values END)::json AS run_values,
       (CASE WHEN u.known = 0 THEN r.sensitive_values END)::json AS sensitive_values, p.version, p.updates, p.sensitive_updates
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@known_versions::integer[])) AS u (run_id, known),
     LATERAL (SELECT * FROM cyclonetix__state.runs r
              WHERE r.run_id = u.run_id AND r.run_id >= @least AND r.run_id <= @greatest LIMIT 1) r,
     LATERAL (SELECT coalesce(max(c.version), 0)::integer AS version, json_agg(c.body ORDER BY c.version)::json AS updates,
                    json_agg(c.sensitive ORDER BY c.version)::json AS sensitive_updates
              FROM cyclonetix__state.run_updates c
              WHERE c.run_id = u.run_id AND c.version >= u.known AND c.run_id >= @least AND c.run_id <= @greatest) p;

-- name: GetGivenValues :one
SELECT run_values, sensitive_values FROM cyclonetix__state.runs WHERE run_id = @run_id;

-- name: HasTaskRuns :one
SELECT EXISTS (SELECT FROM cyclonetix__state.task_runs WHERE run_id = @run_id)::boolean AS has;

-- name: RefuseRun :exec
UPDATE cyclonetix__state.run_states
SET status = 11, start_time = coalesce(start_time, @at::timestamptz), end_time = greatest(start_time, @at::timestamptz), reason = @reason
WHERE run_id = @run_id AND status < 10;

-- name: CancelUnendedTaskRuns :exec
UPDATE cyclonetix__state.task_runs
SET status = 14, cause = 10, end_time = greatest(start_time, @at::timestamptz)
WHERE run_id = @run_id AND status < 10;

-- name: InsertRunEvents :exec
INSERT INTO cyclonetix__state.run_events (run_id, at, kind, actor, node, attempt, cause, detail)
SELECT u.run_id, u.at, u.kind, u.actor, u.node, u.attempt, u.cause, nullif(u.detail, '')::json
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@ats::timestamptz[]), unnest(@kinds::text[]), unnest(@actors::text[]), unnest(@nodes::integer[]),
                unnest(@attempts::smallint[]), unnest(@causes::smallint[]), unnest(@details::text[]))
       AS u (run_id, at, kind, actor, node, attempt, cause, detail);

-- name: DeleteRunNames :execrows
DELETE FROM cyclonetix__state.run_names
WHERE ctid = ANY (ARRAY(SELECT n.ctid FROM cyclonetix__state.run_names n
                        WHERE n.run_id >= @lower_bound AND n.run_id < @upper_bound LIMIT @most));

-- name: GetPending :one
-- What a run needs in order to begin. A writer that has just lost its session may come back.
SELECT r.options,
       EXISTS (SELECT FROM cyclonetix__state.writers w LEFT JOIN cyclonetix__state.writer_beats b ON b.writer = w.writer
               WHERE NOT w.dead
                 AND (w.lock_key = ANY (cyclonetix__state.held_locks())
                      OR greatest(w.started_at, b.at) > now() - interval '15 seconds'))::boolean AS orchestrated
FROM cyclonetix__state.runs r WHERE r.run_id = @run_id LIMIT 1;

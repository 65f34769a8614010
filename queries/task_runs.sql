-- name: InsertQueuedTaskRuns :exec
-- The first attempt of task runs that have no row yet. The ids of the runs come once each, and runs has the index (from 1) of
-- each task run's. Arrays are read by index: that is quicker than unnest, which puts each array into a table of its own.
INSERT INTO cyclonetix__state.task_runs (run_id, queued_time, node, status, attempt, delivery, cause)
SELECT (@run_ids::uuid[])[(@runs::integer[])[i]], @queued_time::timestamptz, (@nodes::integer[])[i], 1, 1, 1, 0
FROM generate_series(1, @wanted::integer) AS i;

-- name: InsertEndedTaskRuns :exec
-- Task runs that end without ever having been queued.
INSERT INTO cyclonetix__state.task_runs (run_id, node, status, attempt, delivery, cause, end_time, reason)
SELECT u.run_id, u.node, u.status, u.attempt, u.delivery, u.cause, @end_time::timestamptz, nullif(u.reason, '')
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@statuses::smallint[]), unnest(@attempts::smallint[]),
                unnest(@deliveries::smallint[]), unnest(@causes::smallint[]), unnest(@reasons::text[]))
     AS u (run_id, node, status, attempt, delivery, cause, reason);

-- name: InsertWaitingTaskRuns :exec
-- Task runs that wait for something else than an agent before they were queued.
INSERT INTO cyclonetix__state.task_runs (run_id, queued_time, node, status, attempt, delivery, cause)
SELECT u.run_id, @queued_time::timestamptz, u.node, 3, u.attempt, u.delivery, u.cause
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@attempts::smallint[]), unnest(@deliveries::smallint[]),
                unnest(@causes::smallint[])) AS u (run_id, node, attempt, delivery, cause);

-- name: EndTaskRuns :exec
-- An upsert and no UPDATE ... FROM, because the latter's join becomes a scan on a young partition. A row that
-- was made instead of written (its queued_time tells) is an error, and so is one of another attempt or delivery.
-- This is the hottest statement: the runs' ids come once each, runs has the index (from 1) of each task run's, and codes
-- holds status (8 bits), cause (8), attempt (16), delivery (16) and exit code + 1 (15; 0 for none), from the lowest bit.
-- Times are microseconds since 1970, 0 for none.
WITH written AS (
    INSERT INTO cyclonetix__state.task_runs AS t
        (run_id, queued_time, node, status, attempt, delivery, cause, exit_code, start_time, end_time, agent)
    SELECT (@run_ids::uuid[])[(@runs::integer[])[i]], '-infinity', (@nodes::integer[])[i],
           ((@codes::bigint[])[i] & 255)::smallint, ((@codes::bigint[])[i] >> 16 & 65535)::smallint,
           ((@codes::bigint[])[i] >> 32 & 65535)::smallint, ((@codes::bigint[])[i] >> 8 & 255)::smallint,
           nullif(((@codes::bigint[])[i] >> 48)::integer - 1, -1),
           CASE WHEN (@start_times::bigint[])[i] <> 0 THEN to_timestamp((@start_times::bigint[])[i] / 1e6::float8) END,
           to_timestamp((@end_times::bigint[])[i] / 1e6::float8), nullif((@agents::bigint[])[i], 0)
    FROM generate_series(1, @wanted::integer) AS i
    ON CONFLICT (run_id, node) DO UPDATE
    SET status = excluded.status, cause = excluded.cause, exit_code = excluded.exit_code,
        start_time = excluded.start_time, end_time = excluded.end_time, agent = excluded.agent
    WHERE t.status IN (1, 3) AND t.attempt = excluded.attempt AND t.delivery = excluded.delivery
    RETURNING t.queued_time
)
SELECT cyclonetix__state.expect_rows('ends of task runs', @wanted::integer, count(*) FILTER (WHERE queued_time > '-infinity')) FROM written;

-- name: ExplainTaskRuns :exec
-- Gives reasons to task runs that EndTaskRuns ended in the same commit: few, as success needs none.
WITH written AS (
    INSERT INTO cyclonetix__state.task_runs AS t (run_id, queued_time, node, status, attempt, delivery, cause, end_time, reason)
    SELECT u.run_id, '-infinity', u.node, 11, 1, 1, 0, 'infinity', u.reason
    FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@reasons::text[])) AS u (run_id, node, reason)
    ON CONFLICT (run_id, node) DO UPDATE
    SET reason = excluded.reason
    RETURNING t.queued_time
)
SELECT cyclonetix__state.expect_rows('reasons of task runs', @wanted, count(*) FILTER (WHERE queued_time > '-infinity')) FROM written;

-- name: RequeueTaskRuns :exec
-- Task runs that are queued again or wait for that (status 1 or 3). Those that wait for a retry's delay (cause 0) keep the time at
-- which they were queued.
WITH written AS (
    INSERT INTO cyclonetix__state.task_runs AS t (run_id, queued_time, node, status, attempt, delivery, cause)
    SELECT u.run_id, '-infinity', u.node, u.status, u.attempt, u.delivery, u.cause
    FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@statuses::smallint[]), unnest(@attempts::smallint[]),
                    unnest(@deliveries::smallint[]), unnest(@causes::smallint[])) AS u (run_id, node, status, attempt, delivery, cause)
    ON CONFLICT (run_id, node) DO UPDATE
    SET status = excluded.status, attempt = excluded.attempt, delivery = excluded.delivery, cause = excluded.cause, exit_code = NULL,
        queued_time = CASE WHEN excluded.status = 1 OR excluded.cause <> 0 THEN @queued_time::timestamptz ELSE t.queued_time END,
        start_time = NULL, end_time = NULL, agent = NULL, reason = NULL
    WHERE t.status IN (1, 3)
    RETURNING t.queued_time
)
SELECT cyclonetix__state.expect_rows('requeued task runs', @wanted, count(*) FILTER (WHERE queued_time > '-infinity')) FROM written;

-- name: InsertAttempts :exec
-- Before the rows of the task runs are written anew: these tell when the attempts were queued. The bounds of the runs' ids let
-- the server look into their partitions only.
INSERT INTO cyclonetix__state.attempts (run_id, node, attempt, status, cause, exit_code, queued_time, start_time, end_time, agent, reason)
SELECT u.run_id, u.node, u.attempt, u.status, u.cause, nullif(u.exit_code, -1),
       (SELECT t.queued_time FROM cyclonetix__state.task_runs t
        WHERE t.run_id = u.run_id AND t.node = u.node AND t.run_id >= @least AND t.run_id <= @greatest LIMIT 1), nullif(u.start_time, '0001-01-01 00:00:00+00'),
       nullif(u.end_time, '0001-01-01 00:00:00+00'), nullif(u.agent, 0), nullif(u.reason, '')
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@attempts::smallint[]), unnest(@statuses::smallint[]),
                unnest(@causes::smallint[]), unnest(@exit_codes::integer[]), unnest(@start_times::timestamptz[]),
                unnest(@end_times::timestamptz[]), unnest(@agents::bigint[]), unnest(@reasons::text[]))
     AS u (run_id, node, attempt, status, cause, exit_code, start_time, end_time, agent, reason);

-- name: ResetTaskRuns :exec
-- Task runs of one run that are pending again: they have no row, no output and no timer.
WITH gone AS (
    DELETE FROM cyclonetix__state.task_runs t WHERE t.run_id = @run_id AND t.node = ANY (@nodes::integer[]) AND t.status >= 10 RETURNING 1
), outputs AS (
    DELETE FROM cyclonetix__state.outputs o WHERE o.run_id = @run_id AND o.node = ANY (@nodes::integer[])
), timers AS (
    DELETE FROM cyclonetix__state.timers i WHERE i.run_id = @run_id AND i.node = ANY (@nodes::integer[])
)
SELECT cyclonetix__state.expect_rows('reset task runs', cardinality(@nodes::integer[]), count(*)) FROM gone;

-- name: RetireTaskRuns :exec
-- Task runs of one run whose last attempt was the end, and now is one that a later one superseded. What it gave is taken back.
-- Their rows wait, to be written by a later statement of the same commit.
WITH ended AS (
    SELECT t.node, t.attempt, t.status, t.cause, t.exit_code, t.queued_time, t.start_time, t.end_time, t.agent, t.reason
    FROM cyclonetix__state.task_runs t
    WHERE t.run_id = @run_id AND t.node = ANY (@nodes::integer[]) AND t.status >= 10 AND t.attempt >= 1
), kept AS (
    INSERT INTO cyclonetix__state.attempts (run_id, node, attempt, status, cause, retired, exit_code, queued_time, start_time, end_time, agent, reason)
    SELECT @run_id::uuid, e.node, e.attempt, e.status, e.cause, 1, e.exit_code, e.queued_time, e.start_time, e.end_time, e.agent, e.reason FROM ended e
    ON CONFLICT (run_id, node, attempt) DO UPDATE SET retired = 2 -- it ended while it waited for the next one
    RETURNING 1
), revived AS (
    UPDATE cyclonetix__state.task_runs t
    SET status = 3, cause = 0, exit_code = NULL, start_time = NULL, end_time = NULL, agent = NULL, reason = NULL
    WHERE t.run_id = @run_id AND t.node = ANY (@nodes::integer[]) AND t.status >= 10 AND t.attempt >= 1
    RETURNING 1
), outputs AS (
    DELETE FROM cyclonetix__state.outputs o WHERE o.run_id = @run_id AND o.node = ANY (@nodes::integer[])
)
SELECT cyclonetix__state.expect_rows('retired task runs', cardinality(@nodes::integer[]), (SELECT count(*) FROM kept)),
       cyclonetix__state.expect_rows('revived task runs', cardinality(@nodes::integer[]), (SELECT count(*) FROM revived));

-- name: LoadTaskRuns :many
-- The rows of one run, with how often earlier attempts used up retries, since the last one that was retired, and rescues.
SELECT t.node, t.status, t.cause, t.attempt, t.delivery,
       (SELECT count(*) FROM cyclonetix__state.attempts a
        WHERE a.run_id = @run_id AND a.node = t.node AND a.cause NOT IN (7, 8)
          AND a.retired <> 1 AND a.attempt > coalesce((SELECT max(b.attempt) FROM cyclonetix__state.attempts b
                                    WHERE b.run_id = @run_id AND b.node = t.node
                                      AND b.retired > 0 AND b.attempt < t.attempt), 0))::integer AS retried,
       (SELECT count(*) FROM cyclonetix__state.attempts a
        WHERE a.run_id = @run_id AND a.node = t.node AND a.cause = 7 AND a.retired <> 1)::integer AS rescued
FROM cyclonetix__state.task_runs t
WHERE t.run_id = @run_id AND (t.attempt > 1 OR t.status IN (3, 12, 14))
UNION ALL
SELECT t.node, t.status, t.cause, t.attempt, t.delivery, 0, 0
FROM cyclonetix__state.task_runs t
WHERE t.run_id = @run_id AND NOT (t.attempt > 1 OR t.status IN (3, 12, 14));

-- name: WriteTimers :exec
INSERT INTO cyclonetix__state.timers (bucket, run_id, node, kind, due)
SELECT * FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@kinds::smallint[]),
                         unnest(@dues::timestamptz[])) AS u (bucket, run_id, node, kind, due)
ON CONFLICT (run_id, node, kind) DO UPDATE SET due = excluded.due;

-- name: DeleteTimers :exec
DELETE FROM cyclonetix__state.timers
WHERE ctid = ANY (ARRAY(
    SELECT t.ctid
    FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@kinds::smallint[])) AS u (run_id, node, kind),
         LATERAL (SELECT ctid FROM cyclonetix__state.timers t
                  WHERE t.run_id = u.run_id AND t.node = u.node AND t.kind = u.kind LIMIT 1) t
));

-- name: DeleteRunTimers :exec
DELETE FROM cyclonetix__state.timers WHERE run_id = @run_id;

-- name: ListDueTimers :many
SELECT t.run_id, t.node, t.kind, t.due
FROM unnest(@buckets::smallint[]) AS u (bucket),
     LATERAL (SELECT * FROM cyclonetix__state.timers t WHERE t.bucket = u.bucket AND t.due <= @before ORDER BY t.bucket, t.due LIMIT @most) t
ORDER BY t.due;

-- name: ListRunNeeds :many
-- What queued task runs need of an agent, where that is anything.
SELECT t.node, s.body
FROM cyclonetix__state.task_runs t
JOIN cyclonetix__state.runs r ON r.run_id = t.run_id
LEFT JOIN LATERAL (SELECT g.spec FROM cyclonetix__state.run_nodes g WHERE g.run_id = t.run_id AND g.node = t.node LIMIT 1) g ON true
LEFT JOIN LATERAL (SELECT n.spec FROM cyclonetix__state.plan_nodes n WHERE n.plan = r.plan AND n.node = t.node LIMIT 1) n ON true
JOIN cyclonetix__state.task_specs s ON s.hash = coalesce(g.spec, n.spec)
WHERE t.run_id = @run_id AND t.status = 1 AND (s.body -> 'requires' IS NOT NULL OR s.body -> 'resources' IS NOT NULL)
ORDER BY t.node;

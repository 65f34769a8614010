-- name: GetRunView :one
SELECT * FROM cyclonetix.runs WHERE run_uuid = @run_id;

-- name: GetRunPlan :one
SELECT plan FROM cyclonetix__state.runs WHERE run_id = @run_id;

-- name: ListRunViews :many
SELECT * FROM cyclonetix.runs
WHERE run_uuid >= @since::uuid AND run_uuid < @until::uuid
  AND (@dag_id::text = '' OR dag_id = @dag_id::text)
ORDER BY run_uuid DESC LIMIT @most OFFSET @skip;

-- name: ListOutcomeViews :many
-- The newest runs by outcome, which have an index: they may be few among many.
SELECT v.* FROM cyclonetix.runs v
WHERE v.run_uuid >= @since::uuid AND v.run_uuid = ANY (ARRAY(
    SELECT r.run_id FROM cyclonetix__state.runs r
    WHERE r.by_outcome AND r.run_id >= @since::uuid
    ORDER BY r.run_id DESC LIMIT @most))
ORDER BY v.run_uuid DESC;

-- name: CountRunViews :one
SELECT count(*) FROM (
    SELECT FROM cyclonetix.runs
    WHERE run_uuid >= @since::uuid AND run_uuid < @until::uuid
      AND (@dag_id::text = '' OR dag_id = @dag_id::text)
    LIMIT @most) AS part;

-- name: ListRunViewsByStatus :many
-- Runs that have not ended are in live_runs, those that failed or were cancelled have an index, and nearly all others completed.
SELECT v.*
FROM cyclonetix.runs v
WHERE v.run_uuid IN (
    SELECT f.run_id
    FROM (SELECT l.run_id
          FROM cyclonetix__state.live_runs l,
               LATERAL (SELECT FROM cyclonetix__state.run_states s JOIN cyclonetix__state.runs r ON r.run_id = s.run_id
                        WHERE s.run_id = l.run_id AND r.run_id = l.run_id AND s.status = ANY (@statuses::smallint[])
                          AND (@dag_id::text = '' OR r.dag_id = @dag_id::text) LIMIT 1) s
          WHERE @statuses::smallint[] && '{0,1,2}' AND l.run_id >= @since::uuid AND l.run_id < @until::uuid
          ORDER BY l.run_id DESC LIMIT @reach) f
    UNION ALL
    SELECT f.run_id
    FROM unnest(@statuses::smallint[]) AS u (status),
         LATERAL (SELECT s.run_id FROM cyclonetix__state.run_states s JOIN cyclonetix__state.runs r ON r.run_id = s.run_id
                  WHERE s.unsuccessful = u.status AND s.run_id >= @since::uuid AND s.run_id < @until::uuid
                    AND (@dag_id::text = '' OR r.dag_id = @dag_id::text)
                  ORDER BY s.run_id DESC LIMIT @reach) f
    UNION ALL
    SELECT f.run_id
    FROM (SELECT s.run_id FROM cyclonetix__state.run_states s JOIN cyclonetix__state.runs r ON r.run_id = s.run_id
          WHERE 10 = ANY (@statuses::smallint[]) AND s.status = 10 AND s.run_id >= @since::uuid AND s.run_id < @until::uuid
            AND (@dag_id::text = '' OR r.dag_id = @dag_id::text)
          ORDER BY s.run_id DESC LIMIT @reach) f)
ORDER BY v.run_uuid DESC LIMIT @most OFFSET @skip;

-- name: CountRunViewsByStatus :one
SELECT count(*) FROM (
    SELECT f.run_id
    FROM (SELECT l.run_id
          FROM cyclonetix__state.live_runs l,
               LATERAL (SELECT FROM cyclonetix__state.run_states s JOIN cyclonetix__state.runs r ON r.run_id = s.run_id
                        WHERE s.run_id = l.run_id AND r.run_id = l.run_id AND s.status = ANY (@statuses::smallint[])
                          AND (@dag_id::text = '' OR r.dag_id = @dag_id::text) LIMIT 1) s
          WHERE @statuses::smallint[] && '{0,1,2}' AND l.run_id >= @since::uuid AND l.run_id < @until::uuid LIMIT @most) f
    UNION ALL
    SELECT f.run_id
    FROM unnest(@statuses::smallint[]) AS u (status),
         LATERAL (SELECT s.run_id FROM cyclonetix__state.run_states s JOIN cyclonetix__state.runs r ON r.run_id = s.run_id
                  WHERE s.unsuccessful = u.status AND s.run_id >= @since::uuid AND s.run_id < @until::uuid
                    AND (@dag_id::text = '' OR r.dag_id = @dag_id::text)
                  LIMIT @most) f
    UNION ALL
    SELECT f.run_id
    FROM (SELECT s.run_id FROM cyclonetix__state.run_states s JOIN cyclonetix__state.runs r ON r.run_id = s.run_id
          WHERE 10 = ANY (@statuses::smallint[]) AND s.status = 10 AND s.run_id >= @since::uuid AND s.run_id < @until::uuid
            AND (@dag_id::text = '' OR r.dag_id = @dag_id::text)
          LIMIT @most) f
    LIMIT @most) AS part;

-- name: ListTaskRunViews :many
SELECT node, name, task_id, queue, priority, status, attempt, queued_time, start_time, end_time, exit_code,
       coalesce(cause, '')::text AS cause, reason, agent_id
FROM cyclonetix.task_runs WHERE run_uuid = @run_id ORDER BY node;

-- name: GetTaskRunView :one
SELECT node, name, task_id, queue, priority, status, attempt, queued_time, start_time, end_time, exit_code,
       coalesce(cause, '')::text AS cause, reason, agent_id
FROM cyclonetix.task_runs WHERE run_uuid = @run_id AND node = @node;

-- name: ListEventViews :many
SELECT at, kind, coalesce(node, -1)::integer AS node, coalesce(name, '')::text AS name, coalesce(attempt, 0)::integer AS attempt,
       coalesce(cause, '')::text AS cause, coalesce(actor, '')::text AS actor, coalesce(reason, '')::text AS reason, detail
FROM cyclonetix.events WHERE run_uuid = @run_id ORDER BY at, place, id, node;

-- name: ListQueueViews :many
SELECT * FROM cyclonetix.queues ORDER BY name;

-- name: ListAgentViews :many
SELECT * FROM cyclonetix.agents WHERE status = 'live' OR ended_at > now() - interval '1 day' ORDER BY incarnation;

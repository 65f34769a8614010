-- name: WriteOutputs :exec
-- An output is kept with the name by which later tasks ask for it. Nodes that were added by the same commit are there already.
-- The bounds of the runs' ids let the server look into their partitions only.
WITH written AS (
    INSERT INTO cyclonetix__state.outputs AS o (run_id, node, task, body)
    SELECT u.run_id, u.node,
           coalesce((SELECT coalesce(g.iteration_of, g.name) FROM cyclonetix__state.run_nodes g
                     WHERE g.run_id = u.run_id AND g.node = u.node AND g.run_id >= @least AND g.run_id <= @greatest LIMIT 1),
                    (SELECT n.name FROM cyclonetix__state.runs r JOIN cyclonetix__state.plan_nodes n ON n.plan = r.plan
                     WHERE r.run_id = u.run_id AND n.node = u.node AND r.run_id >= @least AND r.run_id <= @greatest LIMIT 1)),
           u.body::json
    FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@bodies::text[])) AS u (run_id, node, body)
    ON CONFLICT (run_id, node) DO UPDATE SET body = excluded.body
    RETURNING 1
)
SELECT cyclonetix__state.expect_rows('outputs', @wanted, count(*)) FROM written;

-- name: CopyOutputs :exec
-- What task runs of earlier runs gave, for the nodes of a new run that need not do it again.
INSERT INTO cyclonetix__state.outputs (run_id, node, task, body)
SELECT u.run_id, u.node, u.task, o.body
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@tasks::text[]), unnest(@from_runs::uuid[]), unnest(@from_nodes::integer[]))
     AS u (run_id, node, task, from_run, from_node),
     LATERAL (SELECT o.body FROM cyclonetix__state.outputs o
              WHERE o.run_id = u.from_run AND o.node = u.from_node AND o.run_id >= @least AND o.run_id <= @greatest LIMIT 1) o;

-- name: ListNodesAmong :many
-- The names, without the iteration, that nodes of a run have.
SELECT n.name FROM cyclonetix__state.runs r JOIN cyclonetix__state.plan_nodes n ON n.plan = r.plan
WHERE r.run_id = @run_id AND n.name = ANY (@names::text[])
UNION
SELECT coalesce(g.iteration_of, g.name) FROM cyclonetix__state.run_nodes g
WHERE g.run_id = @run_id AND coalesce(g.iteration_of, g.name) = ANY (@names::text[]);

-- name: ListOutputs :many
-- Of each task, what its newest iteration gave of those that completed. Later iterations have higher numbers.
SELECT o.task, o.body
FROM cyclonetix__state.outputs o
JOIN cyclonetix__state.task_runs t ON t.run_id = o.run_id AND t.node = o.node AND t.status = 10
WHERE o.run_id = @run_id AND t.run_id = @run_id AND o.task = ANY (@tasks::text[])
  AND NOT EXISTS (SELECT FROM cyclonetix__state.run_nodes g
                  JOIN cyclonetix__state.task_runs l ON l.run_id = g.run_id AND l.node = g.node AND l.status = 10
                  WHERE g.run_id = @run_id AND l.run_id = @run_id AND g.iteration_of = o.task AND g.node > o.node);

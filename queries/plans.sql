-- name: TouchPlan :one
-- Marks the plan and its specifications as used today; nothing is found when the plan is not stored, or removed just now.
WITH plan AS (
    SELECT k.hash, k.last_used FROM cyclonetix__state.plans k WHERE k.hash = @hash
), touched AS (
    UPDATE cyclonetix__state.plans p SET last_used = current_date
    FROM plan WHERE p.hash = plan.hash AND p.last_used < current_date
    RETURNING p.hash
), touched_specs AS (
    -- Sorted by hash, as InsertTaskSpecs does, so that those who touch plans that share specifications do not deadlock.
    UPDATE cyclonetix__state.task_specs s SET last_used = current_date
    WHERE s.hash = ANY (ARRAY(
        SELECT l.hash FROM cyclonetix__state.task_specs l
        WHERE l.last_used < current_date
          AND l.hash IN (SELECT n.spec FROM cyclonetix__state.plan_nodes n JOIN touched t ON t.hash = n.plan)
        ORDER BY l.hash FOR UPDATE))
)
SELECT (SELECT count(*) FROM touched) + (SELECT count(*) FROM plan WHERE last_used >= current_date) AS found;

-- name: InsertPlan :execrows
INSERT INTO cyclonetix__state.plans (hash, node_count) VALUES (@hash, @node_count) ON CONFLICT DO NOTHING;

-- name: InsertTaskSpecs :exec
-- Sorted by hash, so that two who insert the same plan do not deadlock.
INSERT INTO cyclonetix__state.task_specs (hash, task_id, queue, priority, body)
SELECT u.hash, u.task_id, u.queue, u.priority, u.body::json
FROM ROWS FROM (unnest(@hashes::uuid[]), unnest(@task_ids::text[]), unnest(@queues::text[]), unnest(@priorities::smallint[]),
                unnest(@bodies::text[])) AS u (hash, task_id, queue, priority, body)
ORDER BY u.hash
ON CONFLICT (hash) DO UPDATE SET last_used = current_date WHERE task_specs.last_used < current_date;

-- name: InsertPlanNodes :exec
INSERT INTO cyclonetix__state.plan_nodes (plan, node, name, spec, dependencies)
SELECT @plan::uuid, u.node, u.name, u.spec, u.dependencies::integer[]
FROM ROWS FROM (unnest(@nodes::integer[]), unnest(@names::text[]), unnest(@specs::uuid[]), unnest(@dependencies::text[]))
     AS u (node, name, spec, dependencies);

-- name: ListPlanNodes :many
SELECT node, name, spec, dependencies FROM cyclonetix__state.plan_nodes WHERE plan = @plan ORDER BY node;

-- name: WriteRunNodes :exec
WITH written AS (
    INSERT INTO cyclonetix__state.run_nodes (run_id, node, spec, name, dependencies, iteration_of)
    SELECT u.run_id, u.node, u.spec, u.name, u.dependencies::integer[], nullif(u.iteration_of, '')
    FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@specs::uuid[]), unnest(@names::text[]),
                    unnest(@dependencies::text[]), unnest(@iterations_of::text[])) AS u (run_id, node, spec, name, dependencies, iteration_of)
    ON CONFLICT (run_id, node) DO UPDATE
    SET spec = excluded.spec, name = excluded.name, dependencies = excluded.dependencies, iteration_of = excluded.iteration_of
    RETURNING 1
)
SELECT cyclonetix__state.expect_rows('nodes of runs', @wanted, count(*)) FROM written;

-- name: ListRunNodes :many
SELECT node, name, spec, dependencies FROM cyclonetix__state.run_nodes WHERE run_id = @run_id ORDER BY node;

-- name: ListRunNodeNames :many
SELECT node, name FROM cyclonetix__state.run_nodes WHERE run_id = @run_id AND node >= @first ORDER BY node;

-- name: ListPlanNames :many
SELECT name FROM cyclonetix__state.plan_nodes WHERE plan = @plan ORDER BY node;

-- name: ListRunPlan :many
-- The nodes of a run: those of its plan, unless they have other parents now, and those that were added.
SELECT n.node, n.name, n.dependencies, s.task_id
FROM cyclonetix__state.plan_nodes n JOIN cyclonetix__state.task_specs s ON s.hash = n.spec
WHERE n.plan = @plan AND NOT EXISTS (SELECT FROM cyclonetix__state.run_nodes g WHERE g.run_id = @run_id AND g.node = n.node)
UNION ALL
SELECT g.node, g.name, g.dependencies, s.task_id
FROM cyclonetix__state.run_nodes g JOIN cyclonetix__state.task_specs s ON s.hash = g.spec
WHERE g.run_id = @run_id
ORDER BY 1;

-- name: ListPlanSpecs :many
-- In a fixed order: nodes that are added to a run refer to them by number.
SELECT s.hash, s.body
FROM cyclonetix__state.task_specs s
WHERE s.hash IN (SELECT n.spec FROM cyclonetix__state.plan_nodes n WHERE n.plan = @plan)
ORDER BY s.hash;

-- name: ListTaskSpecs :many
SELECT hash, body FROM cyclonetix__state.task_specs WHERE hash = ANY (@hashes::uuid[]);

-- name: DeleteUnusedPlans :execrows
-- Plans that no kept run can need: a run keeps its plan's date at the day of its submission or later.
WITH gone AS (
    DELETE FROM cyclonetix__state.plans WHERE last_used < @before::timestamptz RETURNING hash
)
DELETE FROM cyclonetix__state.plan_nodes n USING gone WHERE n.plan = gone.hash;

-- name: DeleteUnusedTaskSpecs :execrows
-- One that somebody touches is not waited for: it is used.
DELETE FROM cyclonetix__state.task_specs
WHERE hash = ANY (ARRAY(
    SELECT s.hash FROM cyclonetix__state.task_specs s
    WHERE s.last_used < @before::timestamptz AND NOT EXISTS (SELECT FROM cyclonetix__state.plan_nodes n WHERE n.spec = s.hash)
    FOR UPDATE SKIP LOCKED));

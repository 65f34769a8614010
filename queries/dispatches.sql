-- name: EnsureClass :one
WITH made AS (
    INSERT INTO cyclonetix__state.dispatch_classes (queue, requires) VALUES (@queue, @requires) ON CONFLICT DO NOTHING RETURNING class
)
SELECT class FROM made
UNION ALL
SELECT class FROM cyclonetix__state.dispatch_classes WHERE queue = @queue AND requires = @requires
LIMIT 1;

-- name: ListClasses :many
SELECT class, queue, requires FROM cyclonetix__state.dispatch_classes;

-- name: InsertDispatch :one
INSERT INTO cyclonetix__state.dispatches (class, n, priority, reply_to, queued_at, runs, dags, has_values, specs, members)
VALUES (@class, @n, @priority, @reply_to, @queued_at, @runs, @dags, @has_values, @specs, @members)
RETURNING id;

-- name: DeleteDispatches :exec
DELETE FROM cyclonetix__state.dispatches WHERE id = ANY (@ids::bigint[]);

-- name: WithdrawDispatches :many
-- The table holds a window of the queue, so looking through all of it is quick. A delivery that is being claimed is waited for.
DELETE FROM cyclonetix__state.dispatches WHERE claimed_by IS NULL AND runs && @run_ids::uuid[]
RETURNING id, class, priority, runs, dags, has_values, specs, members;

-- name: ListDispatches :many
SELECT id, class, priority, runs, dags, has_values, specs, members,
       (claimed_by IS NOT NULL)::boolean AS claimed
FROM cyclonetix__state.dispatches
WHERE reply_to = ANY (@buckets::smallint[]);

-- name: ListLostDispatches :many
SELECT id, claimed_by, claimed_at, runs, members FROM cyclonetix__state.dispatches WHERE id = ANY (@ids::bigint[]) AND lost;

-- name: ClaimDispatches :many
-- The claim is the lease. "me" holds the agent's row in share mode, so that declaring the agent dead waits for this
-- claim or defeats it; "pick" must refer to it, or it would never run. When there is nothing to take,
-- nothing is locked and so nothing is written. ARRAY(...) makes the updates look up by key.
WITH me AS MATERIALIZED (
    SELECT a.incarnation, a.queues, a.tags, @want::integer AS want, @slack::integer AS slack
    FROM cyclonetix__state.agents a
    WHERE a.incarnation = @agent AND a.status = 'live'
      AND EXISTS (SELECT FROM cyclonetix__state.dispatches d WHERE d.claimed_by IS NULL)
    FOR SHARE
), pick AS MATERIALIZED (
    SELECT d.id, d.priority, d.n, me.want, me.slack
    FROM me, cyclonetix__state.dispatch_classes c,
         LATERAL (SELECT o.id, o.priority, o.n
                  FROM cyclonetix__state.dispatches o
                  WHERE o.class = c.class AND o.claimed_by IS NULL
                  ORDER BY o.priority, o.id LIMIT @most FOR UPDATE SKIP LOCKED) d
    WHERE (me.queues = '{}' OR c.queue = ANY (me.queues)) AND c.requires <@ me.tags
), ranked AS MATERIALIZED (
    SELECT p.id, p.n, p.want, p.slack, (sum(p.n) OVER (ORDER BY p.priority, p.id) - p.n)::integer AS before FROM pick p
), fits AS MATERIALIZED (
    SELECT r.id FROM ranked r WHERE r.before < r.want AND r.before + r.n <= r.want + r.slack
), cut AS MATERIALIZED (
    SELECT r.id, (r.want - r.before)::integer AS take
    FROM ranked r WHERE r.before < r.want AND r.before + r.n > r.want + r.slack
), whole AS (
    UPDATE cyclonetix__state.dispatches d SET claimed_at = now(), claimed_by = @agent
    WHERE d.id = ANY (ARRAY(SELECT id FROM fits))
    RETURNING d.*
), rest AS (
    -- The delivery that is too large keeps its place with what was not taken.
    UPDATE cyclonetix__state.dispatches d
    SET n = d.n - (SELECT c.take FROM cut c), members = substring(d.members FROM 12 * (SELECT c.take FROM cut c) + 1)
    WHERE d.id = (SELECT c.id FROM cut c)
), part AS (
    INSERT INTO cyclonetix__state.dispatches
        (class, n, priority, reply_to, queued_at, runs, dags, has_values, specs, members, claimed_at, claimed_by)
    SELECT d.class, c.take, d.priority, d.reply_to, d.queued_at, d.runs, d.dags,
           d.has_values, d.specs, substring(d.members FROM 1 FOR 12 * c.take), now(), @agent
    FROM cut c JOIN cyclonetix__state.dispatches d ON d.id = c.id
    RETURNING *
)
SELECT t.id, t.n, t.priority, t.reply_to, t.runs, t.dags, t.has_values, t.specs, t.members, t.claimed_at::timestamptz AS claimed_at
FROM (SELECT * FROM whole UNION ALL SELECT * FROM part) AS t
ORDER BY t.priority, t.id;

-- name: InsertKillOrders :exec
INSERT INTO cyclonetix__state.orders (agent, kind, run_id, node, attempt, delivery)
SELECT DISTINCT d.claimed_by, 1, u.run_id, u.node, u.attempt, u.delivery
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@attempts::smallint[]), unnest(@deliveries::smallint[]))
     AS u (run_id, node, attempt, delivery)
JOIN cyclonetix__state.dispatches d ON u.run_id = ANY (d.runs) AND d.claimed_by IS NOT NULL AND NOT d.lost;

-- name: ListClaimedAfter :many
-- What an agent claimed after a time: the answer to a claim whose answer was lost.
SELECT id, n, priority, reply_to, runs, dags, has_values, specs, members, claimed_at::timestamptz AS claimed_at
FROM cyclonetix__state.dispatches
WHERE claimed_by = @agent::bigint AND claimed_at > @after::timestamptz AND NOT lost
ORDER BY priority, id;

-- name: EnsureClass :one
WITH made AS (
    INSERT INTO cyclonetix__state.dispatch_classes (queue, requires, cpu_millis, memory_mb, gpu, disk_mb)
    VALUES (@queue, @requires, @cpu_millis, @memory_mb, @gpu, @disk_mb) ON CONFLICT DO NOTHING RETURNING class
)
SELECT class FROM made
UNION ALL
SELECT class FROM cyclonetix__state.dispatch_classes
WHERE queue = @queue AND requires = @requires AND cpu_millis = @cpu_millis AND memory_mb = @memory_mb AND gpu = @gpu AND disk_mb = @disk_mb
LIMIT 1;

-- name: ListClasses :many
SELECT class, queue, requires, cpu_millis, memory_mb, gpu, disk_mb FROM cyclonetix__state.dispatch_classes;

-- name: InsertDispatch :one
INSERT INTO cyclonetix__state.dispatches (class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members)
VALUES (@class, @n, @priority, @reply_to, @queued_at, @runs, @dags, @versions, @specs, @members)
RETURNING id;

-- name: DeleteDispatches :exec
DELETE FROM cyclonetix__state.dispatches WHERE id = ANY (@ids::bigint[]);

-- name: RaiseDispatchVersions :exec
-- What nobody has claimed yet is to see the values of its run as they are now. The table holds a window
-- of the queue, so looking through all of it is quick.
UPDATE cyclonetix__state.dispatches d
SET versions = ARRAY(SELECT coalesce((@versions::integer[])[array_position(@run_ids::uuid[], r.id)], d.versions[r.i], 0)
                     FROM unnest(d.runs) WITH ORDINALITY AS r (id, i) ORDER BY r.i)
WHERE d.claimed_by IS NULL AND d.runs && @run_ids::uuid[];

-- name: WithdrawDispatches :many
-- As above. A delivery that is being claimed is waited for.
DELETE FROM cyclonetix__state.dispatches WHERE claimed_by IS NULL AND runs && @run_ids::uuid[]
RETURNING id, class, priority, runs, dags, versions, specs, members;

-- name: ListDispatches :many
SELECT id, class, priority, runs, dags, versions, specs, members,
       (claimed_by IS NOT NULL)::boolean AS claimed
FROM cyclonetix__state.dispatches
WHERE reply_to = ANY (@buckets::smallint[]);

-- name: ListLostDispatches :many
SELECT id, claimed_by, claimed_at, runs, dags, versions, specs, members FROM cyclonetix__state.dispatches
WHERE id = ANY (@ids::bigint[]) AND lost;

-- name: ClaimDispatches :many
-- The claim is the lease. "me" holds the agent's row in share mode, so that declaring the agent dead waits for this
-- claim or defeats it; "pick" must refer to it, or it would never run. When there is nothing to take,
-- nothing is locked and so nothing is written. ARRAY(...) makes the updates look up by key. The time is later
-- than that of the agent's last claim, whatever the clock does: ListClaimedAfter rests on it. Nothing below from_id
-- is open any more (FindOpenDispatches): the index is entered there, one priority after the other, and not at entries
-- of deliveries that are gone and that an old snapshot keeps. No ORDER BY stands around the priorities: it would read
-- and lock all four of them, and a nested loop goes through them as they are listed.
-- A class is passed over that needs more resources than are free. Deliveries with resources hold one member; of them those
-- are taken whose largest shares of what is free come to no more than all of it: then no resource is given away twice. No more of
-- a class are locked than fit, for others to take.
WITH me AS MATERIALIZED (
    SELECT a.incarnation, a.queues, a.tags, @want::integer AS want, @slack::integer AS slack,
           cyclonetix__state.now_after(@after) AS claim_time
    FROM cyclonetix__state.agents a
    WHERE a.incarnation = @agent AND a.status = 'live'
      AND EXISTS (SELECT FROM cyclonetix__state.dispatch_classes c, (VALUES (1), (2), (3), (4)) AS of (priority),
                       LATERAL (SELECT FROM cyclonetix__state.dispatches o
                                WHERE o.class = c.class AND o.priority = of.priority AND o.id >= @from_id AND o.claimed_by IS NULL LIMIT 1) o
                  WHERE (a.queues = '{}' OR c.queue = ANY (a.queues)) AND c.requires <@ a.tags
                    AND c.cpu_millis <= @free_cpu::integer AND c.memory_mb <= @free_memory::integer
                    AND c.gpu <= @free_gpu::integer AND c.disk_mb <= @free_disk::integer)
    FOR SHARE
), pick AS MATERIALIZED (
    -- All columns: these are of the row as it was locked, while a second look at the table would show the row as it was
    -- when the statement began, with members that another agent has cut off since.
    SELECT d.id, d.class, d.n, d.priority, d.reply_to, d.queued_at, d.runs, d.dags, d.versions, d.specs, d.members,
           me.want, me.slack, me.claim_time, s.share
    FROM me, cyclonetix__state.dispatch_classes c,
         LATERAL (SELECT coalesce(greatest(
             c.cpu_millis / nullif(@free_cpu::integer, 0)::float8, c.memory_mb / nullif(@free_memory::integer, 0)::float8,
             c.gpu / nullif(@free_gpu::integer, 0)::float8, c.disk_mb / nullif(@free_disk::integer, 0)::float8), 0) AS share) s,
         LATERAL (SELECT p.*
                  FROM (VALUES (1), (2), (3), (4)) AS of (priority),
                       LATERAL (SELECT o.id, o.class, o.n, o.priority, o.reply_to, o.queued_at, o.runs, o.dags, o.versions, o.specs, o.members
                                FROM cyclonetix__state.dispatches o
                                WHERE o.class = c.class AND o.priority = of.priority AND o.id >= @from_id AND o.claimed_by IS NULL
                                ORDER BY o.id
                                LIMIT least(@most::integer, floor(1 / nullif(s.share, 0) + 0.000000001)::bigint) FOR UPDATE SKIP LOCKED) p
                  LIMIT least(@most::integer, floor(1 / nullif(s.share, 0) + 0.000000001)::bigint)) d
    WHERE (me.queues = '{}' OR c.queue = ANY (me.queues)) AND c.requires <@ me.tags
      AND c.cpu_millis <= @free_cpu::integer AND c.memory_mb <= @free_memory::integer
      AND c.gpu <= @free_gpu::integer AND c.disk_mb <= @free_disk::integer
), ranked AS MATERIALIZED (
    SELECT p.id, p.class, p.n, p.priority, p.reply_to, p.queued_at, p.runs, p.dags, p.versions, p.specs, p.members,
           p.want, p.slack, p.claim_time, (sum(p.n) OVER w - p.n)::integer AS before,
           p.share = 0 OR sum(p.share) OVER w <= 1.0000000001 AS room
    FROM pick p WINDOW w AS (ORDER BY p.priority, p.id)
), fits AS MATERIALIZED (
    SELECT r.id FROM ranked r WHERE r.before < r.want AND r.before + r.n <= r.want + r.slack AND r.room
), cut AS MATERIALIZED (
    SELECT r.id, r.class, r.n, r.priority, r.reply_to, r.queued_at, r.runs, r.dags, r.versions, r.specs, r.members,
           r.claim_time, (r.want - r.before)::integer AS take
    FROM ranked r WHERE r.before < r.want AND r.before + r.n > r.want + r.slack AND r.room
), whole AS (
    UPDATE cyclonetix__state.dispatches d SET claimed_at = (SELECT me.claim_time FROM me), claimed_by = @agent
    WHERE d.id = ANY (ARRAY(SELECT id FROM fits))
    RETURNING d.*
), rest AS (
    -- The delivery that is too large keeps its place with what was not taken.
    UPDATE cyclonetix__state.dispatches d
    SET n = d.n - (SELECT c.take FROM cut c), members = substring(d.members FROM 12 * (SELECT c.take FROM cut c) + 1)
    WHERE d.id = (SELECT c.id FROM cut c)
), part AS (
    INSERT INTO cyclonetix__state.dispatches
        (class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members, claimed_at, claimed_by)
    SELECT c.class, c.take, c.priority, c.reply_to, c.queued_at, c.runs, c.dags,
           c.versions, c.specs, substring(c.members FROM 1 FOR 12 * c.take), c.claim_time, @agent
    FROM cut c
    RETURNING *
)
SELECT t.id, t.n, t.priority, t.reply_to, t.runs, t.dags, t.versions, t.specs, t.members, t.claimed_at::timestamptz AS claimed_at
FROM (SELECT * FROM whole UNION ALL SELECT * FROM part) AS t
ORDER BY t.priority, t.id;

-- name: FindOpenDispatches :one
-- Where claims may begin: see claimMark. Both look-ups pass what has gone since from_id, and no more. The look's own number is
-- drawn after its snapshot was taken; the snapshot's xmax would not do, for it is behind transactions that have not ended.
SELECT pg_snapshot_xmin(now_at)::xid8 AS xmin, pg_current_xact_id()::xid8 AS bound,
       coalesce((SELECT o.id FROM cyclonetix__state.dispatches o ORDER BY o.id DESC LIMIT 1), 0)::bigint AS newest,
       coalesce((SELECT o.id FROM cyclonetix__state.dispatches o WHERE o.id >= @from_id AND o.claimed_by IS NULL ORDER BY o.id LIMIT 1), 0)::bigint AS oldest_open
FROM pg_current_snapshot() AS now_at;

-- name: GetFirstWithResources :many
-- The first delivery that needs resources and is for this agent, whether it fits at the moment or not.
SELECT c.cpu_millis, c.memory_mb, c.gpu, c.disk_mb, extract(epoch FROM clock_timestamp() - d.queued_at)::float8 AS waited
FROM cyclonetix__state.agents a, cyclonetix__state.dispatch_classes c,
     LATERAL (SELECT o.priority, o.id, o.queued_at FROM cyclonetix__state.dispatches o
              WHERE o.class = c.class AND o.claimed_by IS NULL ORDER BY o.priority, o.id LIMIT 1) d
WHERE a.incarnation = @agent AND (a.queues = '{}' OR c.queue = ANY (a.queues)) AND c.requires <@ a.tags
  AND (c.cpu_millis > 0 OR c.memory_mb > 0 OR c.gpu > 0 OR c.disk_mb > 0)
  AND c.cpu_millis <= a.cpu_millis AND c.memory_mb <= a.memory_mb AND c.gpu <= a.gpu AND c.disk_mb <= a.disk_mb
ORDER BY d.priority, d.id LIMIT 1;

-- name: InsertKillOrders :exec
INSERT INTO cyclonetix__state.orders (agent, kind, run_id, node, attempt, delivery)
SELECT DISTINCT d.claimed_by, 1, u.run_id, u.node, u.attempt, u.delivery
FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@attempts::smallint[]), unnest(@deliveries::smallint[]))
     AS u (run_id, node, attempt, delivery)
JOIN cyclonetix__state.dispatches d ON u.run_id = ANY (d.runs) AND d.claimed_by IS NOT NULL AND NOT d.lost;

-- name: ListClaimedAfter :many
-- What an agent claimed after a time: the answer to a claim whose answer was lost.
SELECT id, n, priority, reply_to, runs, dags, versions, specs, members, claimed_at::timestamptz AS claimed_at
FROM cyclonetix__state.dispatches
WHERE claimed_by = @agent::bigint AND claimed_at > @after::timestamptz AND NOT lost
ORDER BY priority, id;

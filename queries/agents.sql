-- name: InsertAgent :one
INSERT INTO cyclonetix__state.agents (agent_id, queues, tags, slots, version, heartbeat_interval_ms, process, lock_key,
                                      cpu_millis, memory_mb, gpu, disk_mb)
VALUES (@agent_id, @queues, @tags, @slots, @version, @heartbeat_interval_ms, @process, @lock_key, @cpu_millis, @memory_mb, @gpu, @disk_mb)
RETURNING incarnation;

-- name: BeatAgent :execrows
-- Nothing is written for an agent that was declared dead.
INSERT INTO cyclonetix__state.agent_beats (incarnation, beat, at)
SELECT a.incarnation, 1, now() FROM cyclonetix__state.agents a WHERE a.incarnation = @agent AND a.status = 'live'
ON CONFLICT (incarnation) DO UPDATE SET beat = agent_beats.beat + 1, at = now();

-- name: LockAgent :exec
-- Waits for a claim of this agent that is under way, or ends the session that has been holding it up.
SELECT cyclonetix__state.lock_row('cyclonetix__state.agents', 'incarnation', @agent);

-- name: GetAgentStatus :one
SELECT status FROM cyclonetix__state.agents WHERE incarnation = @agent;

-- name: ListLiveAgents :many
-- Registrations that a new one with the same id replaces.
SELECT incarnation FROM cyclonetix__state.agents WHERE agent_id = @agent_id AND status = 'live';

-- name: EndAgent :execrows
-- Later claims of the agent find nothing.
UPDATE cyclonetix__state.agents SET status = @status, ended_at = now() WHERE incarnation = @agent AND status = 'live';

-- name: TellLostDispatches :many
-- For each delivery that is claimed by nobody who lives, one message to its writer. It is repeated by every sweep, so
-- it does not matter who declared the agent dead, or whether that process lived on to tell.
WITH told AS (
    UPDATE cyclonetix__state.dispatches d SET lost = true
    WHERE d.claimed_by IS NOT NULL AND NOT d.lost
      AND NOT EXISTS (SELECT FROM cyclonetix__state.agents a WHERE a.incarnation = d.claimed_by AND a.status = 'live')
    RETURNING d.id, d.reply_to
)
INSERT INTO cyclonetix__state.mailbox (bucket, kind, dispatch)
SELECT t.reply_to, 4, t.id FROM told t
RETURNING bucket;

-- name: LoseDispatches :many
-- The same, for deliveries of an agent that lives and that can do nothing with them.
WITH told AS (
    UPDATE cyclonetix__state.dispatches d SET lost = true
    WHERE d.id = ANY (@ids::bigint[]) AND d.claimed_by = @agent::bigint AND NOT d.lost
    RETURNING d.id, d.reply_to
)
INSERT INTO cyclonetix__state.mailbox (bucket, kind, dispatch)
SELECT t.reply_to, 4, t.id FROM told t
RETURNING bucket;

-- name: ListOrders :many
SELECT id, kind, run_id, node, attempt, delivery FROM cyclonetix__state.orders WHERE agent = @agent ORDER BY id;

-- name: AskWhyNothing :one
-- Why a claim took nothing: the agent is dead, or others held all that is for it. The second condition is that of the claim.
SELECT EXISTS (SELECT FROM cyclonetix__state.agents l WHERE l.incarnation = @agent AND l.status = 'live')::boolean AS live,
       EXISTS (SELECT FROM cyclonetix__state.agents a, cyclonetix__state.dispatch_classes c, (VALUES (1), (2), (3), (4)) AS of (priority),
                    LATERAL (SELECT FROM cyclonetix__state.dispatches o
                             WHERE o.class = c.class AND o.priority = of.priority AND o.id >= @from_id AND o.claimed_by IS NULL LIMIT 1) o
               WHERE a.incarnation = @agent AND (a.queues = '{}' OR c.queue = ANY (a.queues)) AND c.requires <@ a.tags
                 AND c.cpu_millis <= @free_cpu::integer AND c.memory_mb <= @free_memory::integer
                 AND c.gpu <= @free_gpu::integer AND c.disk_mb <= @free_disk::integer)::boolean AS waits;

-- name: DeleteOrders :exec
DELETE FROM cyclonetix__state.orders WHERE id = ANY (@ids::bigint[]);

-- name: DeleteOldAgents :exec
DELETE FROM cyclonetix__state.agents a
WHERE a.status <> 'live' AND a.ended_at < @before::timestamptz
  AND NOT EXISTS (SELECT FROM cyclonetix__state.dispatches d WHERE d.claimed_by = a.incarnation);

-- name: DeleteOldAgentBeats :exec
DELETE FROM cyclonetix__state.agent_beats b WHERE NOT EXISTS (SELECT FROM cyclonetix__state.agents a WHERE a.incarnation = b.incarnation);

-- name: DeleteOldOrders :exec
DELETE FROM cyclonetix__state.orders o
WHERE NOT EXISTS (SELECT FROM cyclonetix__state.agents a WHERE a.incarnation = o.agent AND a.status = 'live');

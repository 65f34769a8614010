-- The stable interface for people and programs that read in SQL.

-- Members that an agent has claimed: these task runs are running.
CREATE VIEW cyclonetix__state.claimed_members AS
SELECT d.runs[1 + (get_byte(d.members, i) << 8) + get_byte(d.members, i + 1)]::uuid AS run_id,
       (get_byte(d.members, i + 4) << 24) + (get_byte(d.members, i + 5) << 16)
           + (get_byte(d.members, i + 6) << 8) + get_byte(d.members, i + 7)       AS node,
       (get_byte(d.members, i + 8) << 8) + get_byte(d.members, i + 9)             AS attempt,
       (get_byte(d.members, i + 10) << 8) + get_byte(d.members, i + 11)           AS delivery,
       d.claimed_by, d.claimed_at
FROM cyclonetix__state.dispatches d, generate_series(0, octet_length(d.members) - 12, 12) AS i
WHERE d.claimed_by IS NOT NULL;

CREATE VIEW cyclonetix.runs AS
SELECT coalesce(r.name, r.run_id::text)          AS run_id,
       r.run_id                                  AS run_uuid,
       r.dag_id                                  AS dag_id,
       r.by_outcome                              AS by_outcome,
       cyclonetix__state.run_status_name(s.status) AS status,
       s.task_count                              AS task_count,
       s.completed_tasks                         AS completed_tasks,
       s.failed_tasks                            AS failed_tasks,
       r.created_at                              AS created_at,
       s.start_time                              AS start_time,
       s.end_time                                AS end_time,
       s.cancel_time                             AS cancel_time,
       s.reason                                  AS reason,
       r.context                                 AS context,
       r.revision                                AS revision,
       r.actor                                   AS actor,
       r.cause                                   AS cause,
       r.logical_date                            AS logical_date,
       r.rerun_of                                AS rerun_of
FROM cyclonetix__state.runs r
JOIN cyclonetix__state.run_states s ON s.run_id = r.run_id;

COMMENT ON VIEW cyclonetix.runs IS 'Every run that retention has kept, one row each.';
COMMENT ON COLUMN cyclonetix.runs.run_id IS 'The run''s id as people use it: the custom one where there is one, else the UUID.';
COMMENT ON COLUMN cyclonetix.runs.run_uuid IS 'The run''s UUID (version 7): it sorts by creation, and the history is partitioned by it, so filter on it where you can.';
COMMENT ON COLUMN cyclonetix.runs.dag_id IS 'The DAG, or the task that was named as the outcome.';
COMMENT ON COLUMN cyclonetix.runs.by_outcome IS 'True when the graph was assembled from the dependencies of the task in dag_id.';
COMMENT ON COLUMN cyclonetix.runs.status IS 'pending, running, paused, completed, failed or cancelled.';
COMMENT ON COLUMN cyclonetix.runs.task_count IS 'Number of task runs in the run''s graph.';
COMMENT ON COLUMN cyclonetix.runs.completed_tasks IS 'Number of task runs that completed; up to a second old while the run is running.';
COMMENT ON COLUMN cyclonetix.runs.failed_tasks IS 'Number of task runs that failed; up to a second old while the run is running.';
COMMENT ON COLUMN cyclonetix.runs.created_at IS 'When the run was submitted.';
COMMENT ON COLUMN cyclonetix.runs.start_time IS 'When an orchestrator took the run up; null while pending.';
COMMENT ON COLUMN cyclonetix.runs.end_time IS 'When the run ended; null until then.';
COMMENT ON COLUMN cyclonetix.runs.cancel_time IS 'When someone asked for the run to be cancelled; null when nobody did.';
COMMENT ON COLUMN cyclonetix.runs.reason IS 'Why the run ended as it did, where the states of its tasks do not say it.';
COMMENT ON COLUMN cyclonetix.runs.context IS 'The context that the run was started with.';
COMMENT ON COLUMN cyclonetix.runs.revision IS 'The revision of the definitions that the run was planned from.';
COMMENT ON COLUMN cyclonetix.runs.actor IS 'Who started the run.';
COMMENT ON COLUMN cyclonetix.runs.cause IS 'What started the run: cli, api and so on.';
COMMENT ON COLUMN cyclonetix.runs.logical_date IS 'The time that the run was scheduled for; null for a run that is for no time.';
COMMENT ON COLUMN cyclonetix.runs.rerun_of IS 'The UUID of the run that this one repeats; null for none.';

-- The subqueries with LIMIT 1 stay look-ups by key for each row. As joins, a run of 10,000 task runs on a young partition,
-- of which the planner knows nothing, was compared with itself row by row.
CREATE VIEW cyclonetix.task_runs AS
WITH rows AS (
    SELECT t.run_id, t.node, t.status, t.attempt, t.cause, t.exit_code, t.queued_time, t.start_time, t.end_time, t.agent, t.reason
    FROM cyclonetix__state.task_runs t
    UNION ALL
    -- Nodes of live runs that have no row yet: they are pending.
    SELECT l.run_id, n.node, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL
    FROM cyclonetix__state.live_runs l
    JOIN cyclonetix__state.runs r ON r.run_id = l.run_id
    JOIN cyclonetix__state.plan_nodes n ON n.plan = r.plan
    LEFT JOIN LATERAL (SELECT true AS there FROM cyclonetix__state.task_runs t WHERE t.run_id = l.run_id AND t.node = n.node LIMIT 1) t ON true
    WHERE t.there IS NULL
    UNION ALL
    -- The same for nodes that were added; those that only have other parents now are in the plan.
    SELECT g.run_id, g.node, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL
    FROM cyclonetix__state.live_runs l
    JOIN cyclonetix__state.run_nodes g ON g.run_id = l.run_id
    JOIN cyclonetix__state.runs r ON r.run_id = l.run_id
    LEFT JOIN LATERAL (SELECT true AS there FROM cyclonetix__state.task_runs t WHERE t.run_id = g.run_id AND t.node = g.node LIMIT 1) t ON true
    LEFT JOIN LATERAL (SELECT true AS there FROM cyclonetix__state.plan_nodes n WHERE n.plan = r.plan AND n.node = g.node LIMIT 1) n ON true
    WHERE t.there IS NULL AND n.there IS NULL
)
SELECT coalesce(r.name, r.run_id::text)   AS run_id,
       r.run_id                           AS run_uuid,
       r.run_id::text || '.' || t.node    AS task_run_id,
       t.node                             AS node,
       coalesce(g.name, n.name)           AS name,
       s.task_id                          AS task_id,
       r.dag_id                           AS dag_id,
       cyclonetix__state.task_status_name(CASE WHEN c.node IS NOT NULL THEN 2 ELSE t.status END) AS status,
       t.attempt::integer                 AS attempt,
       s.queue                            AS queue,
       s.priority::integer                AS priority,
       t.queued_time                      AS queued_time,
       CASE WHEN c.node IS NOT NULL THEN c.claimed_at ELSE t.start_time END AS start_time,
       t.end_time                         AS end_time,
       extract(epoch FROM t.end_time - t.start_time)::double precision AS duration_seconds,
       t.exit_code                        AS exit_code,
       cyclonetix__state.cause_name(t.cause) AS cause,
       t.reason                           AS reason,
       a.agent_id                         AS agent_id
FROM rows t
JOIN cyclonetix__state.runs r ON r.run_id = t.run_id
LEFT JOIN LATERAL (SELECT g.name, g.spec FROM cyclonetix__state.run_nodes g WHERE g.run_id = t.run_id AND g.node = t.node LIMIT 1) g ON true
LEFT JOIN LATERAL (SELECT n.name, n.spec FROM cyclonetix__state.plan_nodes n WHERE n.plan = r.plan AND n.node = t.node LIMIT 1) n ON true
JOIN cyclonetix__state.task_specs s ON s.hash = coalesce(g.spec, n.spec)
LEFT JOIN cyclonetix__state.claimed_members c
       ON t.status = 1 AND c.run_id = t.run_id AND c.node = t.node AND c.attempt = t.attempt
LEFT JOIN cyclonetix__state.agents a ON a.incarnation = coalesce(c.claimed_by, t.agent);

COMMENT ON VIEW cyclonetix.task_runs IS 'Every task run that retention has kept, one row each, with its latest attempt. Filter on run_uuid to read one run quickly.';
COMMENT ON COLUMN cyclonetix.task_runs.run_id IS 'The run''s id as people use it: the custom one where there is one, else the UUID.';
COMMENT ON COLUMN cyclonetix.task_runs.run_uuid IS 'The run''s UUID (version 7): the history is partitioned by it.';
COMMENT ON COLUMN cyclonetix.task_runs.task_run_id IS 'The id of the task run: the run''s UUID, a dot, the node''s number.';
COMMENT ON COLUMN cyclonetix.task_runs.node IS 'The number of the node in the run''s graph, from 0.';
COMMENT ON COLUMN cyclonetix.task_runs.name IS 'The node''s name, unique in the run.';
COMMENT ON COLUMN cyclonetix.task_runs.task_id IS 'The task''s id.';
COMMENT ON COLUMN cyclonetix.task_runs.dag_id IS 'The DAG, or the task that was named as the outcome.';
COMMENT ON COLUMN cyclonetix.task_runs.status IS 'pending, queued, running, waiting, completed, failed, skipped, upstream_failed or cancelled. A task run that an agent has claimed is running.';
COMMENT ON COLUMN cyclonetix.task_runs.attempt IS 'The number of the latest attempt, from 1; 0 before the task run was queued.';
COMMENT ON COLUMN cyclonetix.task_runs.queue IS 'The queue of the task.';
COMMENT ON COLUMN cyclonetix.task_runs.priority IS 'The priority of the task, 1 (first) to 4.';
COMMENT ON COLUMN cyclonetix.task_runs.queued_time IS 'When the latest attempt was queued, or began to wait for an approval or the end of a pause; null before.';
COMMENT ON COLUMN cyclonetix.task_runs.start_time IS 'When the latest attempt started; while it runs, when its agent claimed it.';
COMMENT ON COLUMN cyclonetix.task_runs.end_time IS 'When the task run ended; null until then.';
COMMENT ON COLUMN cyclonetix.task_runs.duration_seconds IS 'How long the last attempt ran; null until it ended.';
COMMENT ON COLUMN cyclonetix.task_runs.exit_code IS 'The exit code of the process; null when there was none.';
COMMENT ON COLUMN cyclonetix.task_runs.cause IS 'Why the task run came to its state, where the state does not say it: exit, signal, timeout, start, cancel, upstream, agent_lost, agent_stopped, rescues, refused, approval, rejected, paused, not_chosen, trigger_rule, evaluation, group, kept, skip, stopped, run_timeout or too_many.';
COMMENT ON COLUMN cyclonetix.task_runs.reason IS 'The cause in words, for people.';
COMMENT ON COLUMN cyclonetix.task_runs.agent_id IS 'The agent that runs or ran the latest attempt.';

-- What happened, from the times of runs, task runs and superseded attempts, and from what has a row of its own. place puts
-- the events of one instant in order. Writers' clocks follow the server's and may be some milliseconds ahead of it, so what
-- follows being queued is not earlier than that.
CREATE VIEW cyclonetix.events AS
WITH happened AS (
    SELECT r.run_id, r.created_at AS at, 0 AS place, 0::bigint AS id, 'pending' AS kind, -1 AS node, 0 AS attempt, 0 AS cause, r.actor AS actor,
           NULL::text AS reason, NULL::json AS detail
    FROM cyclonetix__state.runs r
    UNION ALL
    SELECT s.run_id, s.start_time, 1, 0, 'running', -1, 0, 0, NULL, NULL, NULL
    FROM cyclonetix__state.run_states s WHERE s.start_time IS NOT NULL
    UNION ALL
    SELECT e.run_id, e.at, 2, e.id, e.kind, e.node, e.attempt, e.cause, nullif(e.actor, ''), NULL, e.detail
    FROM cyclonetix__state.run_events e
    UNION ALL
    SELECT a.run_id, a.queued_time, 3, 0, 'queued', a.node, a.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.attempts a WHERE a.queued_time IS NOT NULL
    UNION ALL
    SELECT a.run_id, greatest(a.start_time, a.queued_time), 4, 0, 'running', a.node, a.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.attempts a WHERE a.start_time IS NOT NULL
    UNION ALL
    SELECT a.run_id, greatest(a.end_time, a.queued_time), 5, 0, cyclonetix__state.task_status_name(a.status), a.node, a.attempt, a.cause, NULL, a.reason, NULL
    FROM cyclonetix__state.attempts a WHERE a.end_time IS NOT NULL
    UNION ALL
    -- Unless it is the time of the attempt before, whose retry is delayed, or that at which it began to wait.
    SELECT t.run_id, t.queued_time, 3, 0, 'queued', t.node, t.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.task_runs t
    WHERE t.queued_time IS NOT NULL AND t.status <> 3
      AND NOT EXISTS (SELECT FROM cyclonetix__state.attempts a WHERE a.run_id = t.run_id AND a.node = t.node AND a.attempt = t.attempt)
      AND NOT EXISTS (SELECT FROM cyclonetix__state.run_events e
                      WHERE e.run_id = t.run_id AND e.node = t.node AND e.kind = 'waiting' AND e.at = t.queued_time)
    UNION ALL
    SELECT t.run_id, greatest(t.start_time, t.queued_time), 4, 0, 'running', t.node, t.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.task_runs t WHERE t.start_time IS NOT NULL
    UNION ALL
    SELECT t.run_id, greatest(c.claimed_at, t.queued_time), 4, 0, 'running', t.node, t.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.claimed_members c
    JOIN cyclonetix__state.task_runs t ON t.run_id = c.run_id AND t.node = c.node AND t.attempt = c.attempt
    WHERE t.status = 1
    UNION ALL
    SELECT t.run_id, greatest(t.end_time, t.queued_time), 5, 0, cyclonetix__state.task_status_name(t.status), t.node, t.attempt, t.cause, NULL, t.reason, NULL
    FROM cyclonetix__state.task_runs t WHERE t.end_time IS NOT NULL
    UNION ALL
    SELECT s.run_id, s.end_time, 6, 0, cyclonetix__state.run_status_name(s.status), -1, 0, s.stop, NULL, s.reason, NULL
    FROM cyclonetix__state.run_states s WHERE s.end_time IS NOT NULL
)
SELECT coalesce(r.name, r.run_id::text)   AS run_id,
       r.run_id                           AS run_uuid,
       h.at                               AS at,
       h.place                            AS place,
       h.id                               AS id,
       h.kind                             AS kind,
       nullif(h.node, -1)                 AS node,
       coalesce(g.name, n.name)           AS name,
       nullif(h.attempt, 0)               AS attempt,
       cyclonetix__state.cause_name(h.cause) AS cause,
       h.actor                            AS actor,
       h.reason                           AS reason,
       h.detail                           AS detail
FROM happened h
JOIN cyclonetix__state.runs r ON r.run_id = h.run_id
LEFT JOIN LATERAL (SELECT g.name FROM cyclonetix__state.run_nodes g WHERE g.run_id = h.run_id AND g.node = h.node LIMIT 1) g ON true
LEFT JOIN LATERAL (SELECT n.name FROM cyclonetix__state.plan_nodes n WHERE n.plan = r.plan AND n.node = h.node LIMIT 1) n ON true;

COMMENT ON VIEW cyclonetix.events IS 'What happened to runs and their task runs, one row each. Filter on run_uuid; order by at, place, id.';
COMMENT ON COLUMN cyclonetix.events.run_id IS 'The run''s id as people use it: the custom one where there is one, else the UUID.';
COMMENT ON COLUMN cyclonetix.events.run_uuid IS 'The run''s UUID (version 7): the history is partitioned by it.';
COMMENT ON COLUMN cyclonetix.events.at IS 'When it happened.';
COMMENT ON COLUMN cyclonetix.events.place IS 'Puts events of one instant in order.';
COMMENT ON COLUMN cyclonetix.events.id IS 'Puts events of one instant and place in order.';
COMMENT ON COLUMN cyclonetix.events.kind IS 'The status that was reached (queued, running, completed and so on), or what was done: cancel, pause, resume, approve, reject, retry, skip or evaluate.';
COMMENT ON COLUMN cyclonetix.events.node IS 'The number of the node in the run''s graph; null for what happened to the run itself.';
COMMENT ON COLUMN cyclonetix.events.name IS 'The node''s name; null for what happened to the run itself.';
COMMENT ON COLUMN cyclonetix.events.attempt IS 'The number of the attempt; null where it was none of an attempt.';
COMMENT ON COLUMN cyclonetix.events.cause IS 'Why it happened, where the kind does not say it: as in task_runs.';
COMMENT ON COLUMN cyclonetix.events.actor IS 'Who did it; null where nobody did.';
COMMENT ON COLUMN cyclonetix.events.reason IS 'The cause in words, for people.';
COMMENT ON COLUMN cyclonetix.events.detail IS 'More, as JSON: what an evaluation point said of itself.';

CREATE VIEW cyclonetix.agents AS
SELECT a.agent_id                     AS agent_id,
       a.incarnation                  AS incarnation,
       a.status                       AS status,
       a.queues                       AS queues,
       a.tags                         AS tags,
       a.slots                        AS slots,
       coalesce(h.running, 0)         AS running,
       a.version                      AS version,
       a.registered_at                AS registered_at,
       b.at                           AS last_heartbeat,
       a.ended_at                     AS ended_at
FROM cyclonetix__state.agents a
LEFT JOIN cyclonetix__state.agent_beats b ON b.incarnation = a.incarnation
LEFT JOIN (SELECT claimed_by, sum(n)::integer AS running FROM cyclonetix__state.dispatches
           WHERE claimed_by IS NOT NULL GROUP BY claimed_by) h ON h.claimed_by = a.incarnation;

COMMENT ON VIEW cyclonetix.agents IS 'Every registration of an agent that is kept.';
COMMENT ON COLUMN cyclonetix.agents.agent_id IS 'The agent''s id.';
COMMENT ON COLUMN cyclonetix.agents.incarnation IS 'The number of this registration; no other ever has it.';
COMMENT ON COLUMN cyclonetix.agents.status IS 'live, stopped (it said so) or lost (it was declared dead).';
COMMENT ON COLUMN cyclonetix.agents.queues IS 'The queues that it serves; empty for all.';
COMMENT ON COLUMN cyclonetix.agents.tags IS 'The tags that it carries.';
COMMENT ON COLUMN cyclonetix.agents.slots IS 'How many tasks it runs at once, over all its queues.';
COMMENT ON COLUMN cyclonetix.agents.running IS 'How many task runs it has claimed and not yet finished, by delivery.';
COMMENT ON COLUMN cyclonetix.agents.version IS 'The version of its program.';
COMMENT ON COLUMN cyclonetix.agents.registered_at IS 'When it registered.';
COMMENT ON COLUMN cyclonetix.agents.last_heartbeat IS 'When its last heartbeat was stored.';
COMMENT ON COLUMN cyclonetix.agents.ended_at IS 'When it stopped or was declared dead; null while it lives.';

CREATE VIEW cyclonetix.queues AS
WITH parts AS (
    SELECT c.queue, d.n AS depth, 0 AS running, d.queued_at AS oldest
    FROM cyclonetix__state.dispatches d JOIN cyclonetix__state.dispatch_classes c ON c.class = d.class
    WHERE d.claimed_by IS NULL
    UNION ALL
    SELECT c.queue, 0, d.n, NULL
    FROM cyclonetix__state.dispatches d JOIN cyclonetix__state.dispatch_classes c ON c.class = d.class
    WHERE d.claimed_by IS NOT NULL
    UNION ALL
    SELECT b.queue, b.waiting, 0, b.oldest
    FROM cyclonetix__state.backlog b JOIN cyclonetix__state.writers w ON w.writer = b.writer
    WHERE NOT w.dead
    UNION ALL
    SELECT DISTINCT c.queue, 0, 0, NULL::timestamptz FROM cyclonetix__state.dispatch_classes c
    UNION ALL
    SELECT DISTINCT q.queue, 0, 0, NULL::timestamptz
    FROM cyclonetix__state.agents a, LATERAL unnest(a.queues) AS q (queue) WHERE a.status = 'live'
)
SELECT p.queue                  AS name,
       sum(p.depth)::integer    AS depth,
       sum(p.running)::integer  AS running,
       min(p.oldest)            AS oldest,
       (SELECT count(*) FROM cyclonetix__state.agents a
        WHERE a.status = 'live' AND (a.queues = '{}' OR p.queue = ANY (a.queues)))::integer AS consumers
FROM parts p
GROUP BY p.queue;

COMMENT ON VIEW cyclonetix.queues IS 'The queues that hold or held tasks, or that an agent serves.';
COMMENT ON COLUMN cyclonetix.queues.name IS 'The queue''s name.';
COMMENT ON COLUMN cyclonetix.queues.depth IS 'How many tasks wait in it, counting those that an orchestrator has not yet put where agents see them.';
COMMENT ON COLUMN cyclonetix.queues.running IS 'How many tasks agents have claimed from it and not finished, by delivery.';
COMMENT ON COLUMN cyclonetix.queues.oldest IS 'When the longest waiting of them was queued; null when none waits.';
COMMENT ON COLUMN cyclonetix.queues.consumers IS 'How many live agents serve it.';

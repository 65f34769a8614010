-- First what reads all rows: while it is built, runs can be read; nobody starts one. Few runs are for a date.
CREATE INDEX runs_dates ON cyclonetix__state.runs (dag_id, logical_date) WHERE logical_date IS NOT NULL;

-- A task run that dealt with a failure waits for its trigger rule once more (cause 15) when that task is retried. The new
-- constraint allows more than the old one, which holds for all rows that are there: NOT VALID leaves them unread, so that a
-- large history takes no longer. New partitions get it as a valid one.
ALTER TABLE cyclonetix__state.task_runs
    DROP CONSTRAINT not_ended_has_no_end,
    ADD CONSTRAINT not_ended_has_no_end CHECK (status >= 10 OR (end_time IS NULL AND start_time IS NULL AND attempt >= 1
        AND (status = 1 AND cause = 0 OR status = 3 AND cause IN (0, 11, 13, 15)))) NOT VALID;

-- The parameters that evaluation points set for other tasks, some of which may be sensitive: shown by no view, and given to
-- agents and reruns alone. Null for none, and for a change from before, which has them in its body.
ALTER TABLE cyclonetix__state.run_updates ADD COLUMN sensitive json;

-- What the configuration of each server says of all runs. A server declares again and again.
CREATE TABLE cyclonetix__state.declarations (
    server          text PRIMARY KEY,
    queues          text[]      NOT NULL,
    default_context text        NOT NULL,
    at              timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL
);
DELETE FROM cyclonetix__state.settings WHERE name = 'declared';

-- Puts what happened to task runs at one instant in order: a node's attempts one after the other, of each what it waited for
-- before (1), being queued (2), running (3), its end (4) and the delay of a retry (5). Nodes are numbered with those first
-- that others wait for.
CREATE FUNCTION cyclonetix__state.event_order(node integer, attempt integer, step integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (node::bigint << 18) + (attempt << 3) + step $$;

-- As it was, but for place and id. What was done comes before what followed from it.
CREATE OR REPLACE VIEW cyclonetix.events AS
WITH happened AS (
    SELECT r.run_id, r.created_at AS at, 0 AS place, 0::bigint AS id, 'pending' AS kind, -1 AS node, 0 AS attempt, 0 AS cause, r.actor AS actor,
           NULL::text AS reason, NULL::json AS detail
    FROM cyclonetix__state.runs r
    UNION ALL
    SELECT s.run_id, s.start_time, 1, 0, 'running', -1, 0, 0, NULL, NULL, NULL
    FROM cyclonetix__state.run_states s WHERE s.start_time IS NOT NULL
    UNION ALL
    SELECT e.run_id, e.at, CASE e.kind WHEN 'waiting' THEN 3 ELSE 2 END,
           CASE e.kind WHEN 'waiting' THEN cyclonetix__state.event_order(e.node, e.attempt, CASE e.cause WHEN 0 THEN 5 ELSE 1 END) ELSE e.id END,
           e.kind, e.node, e.attempt, e.cause, nullif(e.actor, ''), NULL, e.detail
    FROM cyclonetix__state.run_events e
    UNION ALL
    SELECT a.run_id, a.queued_time, 3, cyclonetix__state.event_order(a.node, a.attempt, 2), 'queued', a.node, a.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.attempts a WHERE a.queued_time IS NOT NULL
    UNION ALL
    SELECT a.run_id, greatest(a.start_time, a.queued_time), 3, cyclonetix__state.event_order(a.node, a.attempt, 3), 'running', a.node, a.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.attempts a WHERE a.start_time IS NOT NULL
    UNION ALL
    SELECT a.run_id, greatest(a.end_time, a.queued_time), 3, cyclonetix__state.event_order(a.node, a.attempt, 4),
           cyclonetix__state.task_status_name(a.status), a.node, a.attempt, a.cause, NULL, a.reason, NULL
    FROM cyclonetix__state.attempts a WHERE a.end_time IS NOT NULL
    UNION ALL
    -- Unless it is the time of the attempt before, whose retry is delayed, or that at which it began to wait.
    SELECT t.run_id, t.queued_time, 3, cyclonetix__state.event_order(t.node, t.attempt, 2), 'queued', t.node, t.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.task_runs t
    WHERE t.queued_time IS NOT NULL AND t.status <> 3
      AND NOT EXISTS (SELECT FROM cyclonetix__state.attempts a WHERE a.run_id = t.run_id AND a.node = t.node AND a.attempt = t.attempt)
      AND NOT EXISTS (SELECT FROM cyclonetix__state.run_events e
                      WHERE e.run_id = t.run_id AND e.node = t.node AND e.kind = 'waiting' AND e.at = t.queued_time)
    UNION ALL
    SELECT t.run_id, greatest(t.start_time, t.queued_time), 3, cyclonetix__state.event_order(t.node, t.attempt, 3), 'running', t.node, t.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.task_runs t WHERE t.start_time IS NOT NULL
    UNION ALL
    SELECT t.run_id, greatest(c.claimed_at, t.queued_time), 3, cyclonetix__state.event_order(t.node, t.attempt, 3), 'running', t.node, t.attempt, 0, NULL, NULL, NULL
    FROM cyclonetix__state.claimed_members c
    JOIN cyclonetix__state.task_runs t ON t.run_id = c.run_id AND t.node = c.node AND t.attempt = c.attempt
    WHERE t.status = 1
    UNION ALL
    SELECT t.run_id, greatest(t.end_time, t.queued_time), 3, cyclonetix__state.event_order(t.node, t.attempt, 4),
           cyclonetix__state.task_status_name(t.status), t.node, t.attempt, t.cause, NULL, t.reason, NULL
    FROM cyclonetix__state.task_runs t WHERE t.end_time IS NOT NULL
    UNION ALL
    SELECT s.run_id, s.end_time, 4, 0, cyclonetix__state.run_status_name(s.status), -1, 0, s.stop, NULL, s.reason, NULL
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


-- A program from before would not see them, and would let such a task run wait for ever.
INSERT INTO cyclonetix__state.settings (name, value)
SELECT 'compatible_from_before_7', s.value FROM cyclonetix__state.settings s WHERE s.name = 'compatible_from';
UPDATE cyclonetix__state.settings SET value = '7' WHERE name = 'compatible_from';

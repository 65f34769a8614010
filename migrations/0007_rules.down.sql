-- A program from before knows nothing of what waits for its trigger rule once more. As if it had waited for the end of a
-- pause, it starts.
UPDATE cyclonetix__state.task_runs SET cause = 13
WHERE status = 3 AND cause = 15 AND run_id IN (SELECT l.run_id FROM cyclonetix__state.live_runs l);

ALTER TABLE cyclonetix__state.task_runs
    DROP CONSTRAINT not_ended_has_no_end,
    ADD CONSTRAINT not_ended_has_no_end CHECK (status >= 10 OR (end_time IS NULL AND start_time IS NULL AND attempt >= 1
        AND (status = 1 AND cause = 0 OR status = 3 AND cause IN (0, 11, 13)))) NOT VALID;

UPDATE cyclonetix__state.run_updates
SET body = json_build_object('context_updates', body -> 'context_updates', 'parameters', sensitive)
WHERE sensitive IS NOT NULL;
ALTER TABLE cyclonetix__state.run_updates DROP COLUMN sensitive;

DROP INDEX cyclonetix__state.runs_dates;

CREATE OR REPLACE VIEW cyclonetix.events AS
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
DROP FUNCTION cyclonetix__state.event_order(integer, integer, integer);

DROP TABLE cyclonetix__state.declarations;

UPDATE cyclonetix__state.settings s SET value = b.value
FROM cyclonetix__state.settings b WHERE s.name = 'compatible_from' AND b.name = 'compatible_from_before_7';
DELETE FROM cyclonetix__state.settings WHERE name = 'compatible_from_before_7';

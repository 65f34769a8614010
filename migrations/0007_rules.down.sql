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
DROP TABLE cyclonetix__state.declarations;

UPDATE cyclonetix__state.settings s SET value = b.value
FROM cyclonetix__state.settings b WHERE s.name = 'compatible_from' AND b.name = 'compatible_from_before_7';
DELETE FROM cyclonetix__state.settings WHERE name = 'compatible_from_before_7';

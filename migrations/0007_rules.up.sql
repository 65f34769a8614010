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

-- A program from before would not see them, and would let such a task run wait for ever.
INSERT INTO cyclonetix__state.settings (name, value)
SELECT 'compatible_from_before_7', s.value FROM cyclonetix__state.settings s WHERE s.name = 'compatible_from';
UPDATE cyclonetix__state.settings SET value = '7' WHERE name = 'compatible_from';

-- What a rerun needs to know of the run that it repeats. compatible_from stays: a program that knows nothing of this writes
-- rows without it, which are read as those from before.

-- First what reads all rows: while it is built, runs can be read; nobody starts one.
CREATE INDEX runs_by_outcome ON cyclonetix__state.runs (run_id) WHERE by_outcome;

-- What was asked for when the run was started, beside its parameters and environment; null for a run from before.
ALTER TABLE cyclonetix__state.runs ADD COLUMN request json;

-- The evaluation point that changed the values; null for a change from before, which may be of several.
ALTER TABLE cyclonetix__state.run_updates ADD COLUMN node integer CHECK (node >= 0);

CREATE OR REPLACE VIEW cyclonetix.runs AS
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
       r.rerun_of                                AS rerun_of,
       -- Not a join, so that who does not ask for it has no look-up.
       coalesce((SELECT o.name FROM cyclonetix__state.runs o WHERE o.run_id = r.rerun_of LIMIT 1), r.rerun_of::text) AS rerun_of_id,
       r.request                                 AS request
FROM cyclonetix__state.runs r
JOIN cyclonetix__state.run_states s ON s.run_id = r.run_id;

COMMENT ON COLUMN cyclonetix.runs.context IS 'The context that the run was made with, whether it was asked for or is that of the DAG or the default one.';
COMMENT ON COLUMN cyclonetix.runs.rerun_of_id IS 'The id of the run that this one repeats, as people use it; its UUID once retention has dropped that run, and null for none.';
COMMENT ON COLUMN cyclonetix.runs.request IS 'What was asked for when the run was started, over what is defined: context, priority, max_parallel, timeout_seconds, queue, retries, retry_delay_seconds, ignore_dependencies. Null for a run from before version 4 of the schema.';

DROP VIEW cyclonetix.runs;
ALTER TABLE cyclonetix__state.run_updates DROP COLUMN node;
DROP INDEX cyclonetix__state.runs_by_outcome;
ALTER TABLE cyclonetix__state.runs DROP COLUMN request;

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

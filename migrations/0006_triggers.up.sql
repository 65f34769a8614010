-- What starts runs beside people and schedules. compatible_from stays: a program that knows nothing of triggers starts
-- fewer runs, and breaks nothing.

-- The current definitions of DAGs that runs of others start.
CREATE INDEX definitions_listening ON cyclonetix__state.definitions (id)
    WHERE kind = 'dag' AND to_revision IS NULL AND (body #> '{triggers,dag_completed}') IS NOT NULL;

-- Files for which a DAG's trigger has started a run, as they were then. file is a hash of the path, modified is in
-- nanoseconds.
CREATE TABLE cyclonetix__state.file_arrivals (
    dag_id   text   NOT NULL,
    file     uuid   NOT NULL,
    size     bigint NOT NULL,
    modified bigint NOT NULL,
    PRIMARY KEY (dag_id, file)
);

-- True, where the definitions are still of that revision. A commit that ends runs stands on it: who has to be told of an
-- end hangs on the definitions.
CREATE FUNCTION cyclonetix__state.at_revision(known bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT coalesce(max(r.revision), 0) FROM cyclonetix__state.revisions r) <> known THEN
        RAISE EXCEPTION 'the definitions are not of revision % any more', known USING ERRCODE = 'CY003';
    END IF;
    RETURN true;
END $$;

-- The first statement of every commit of a writer. It raises when the writer was declared dead or when
-- the number is not the next one, so that nothing of a pipelined commit is stored. Settings live for the transaction only.
CREATE FUNCTION cyclonetix__state.fence(of_writer bigint, next_seq bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- 33 partitions are enough to make JIT compile a statement for 80 ms.
    PERFORM set_config('jit', 'off', true),
            set_config('enable_seqscan', 'off', true),
            set_config('idle_in_transaction_session_timeout', '1s', true);
    UPDATE cyclonetix__state.writers SET seq = next_seq WHERE writer = of_writer AND seq = next_seq - 1 AND NOT dead;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'writer % is fenced at %', of_writer, next_seq USING ERRCODE = 'CY001';
    END IF;
END $$;

-- Locks a row for the rest of the transaction. Who holds it for more than half a second loses its session: a process
-- that froze in the middle of a pipelined commit, or whose host is cut off, would hold it for hours, and no time-out
-- of the server ends a session that it waits for between two statements of a pipeline.
CREATE FUNCTION cyclonetix__state.lock_row(of_table regclass, key name, value bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    former text := current_setting('lock_timeout');
    holder xid;
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    BEGIN
        EXECUTE format('SELECT FROM %s WHERE %I = $1 FOR UPDATE', of_table, key) USING value;
    EXCEPTION WHEN lock_not_available THEN
        EXECUTE format('SELECT xmax FROM %s WHERE %I = $1', of_table, key) INTO holder USING value;
        BEGIN
            PERFORM pg_terminate_backend(l.pid)
            FROM pg_locks l WHERE l.locktype = 'transactionid' AND l.transactionid = holder AND l.granted;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL; -- another role's session: it is waited for
        END;
        PERFORM set_config('lock_timeout', '5s', true);
        EXECUTE format('SELECT FROM %s WHERE %I = $1 FOR UPDATE', of_table, key) USING value;
    END;
    PERFORM set_config('lock_timeout', former, true);
END $$;

-- The time, but later than a former one, whatever the clock did meanwhile. It is that of the call and not of the
-- transaction's beginning, which may lie before the end of what the statement's snapshot shows as ended.
CREATE FUNCTION cyclonetix__state.now_after(former timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE AS $$ SELECT greatest(clock_timestamp(), former + interval '1 microsecond') $$;

-- Raises unless a bulk statement wrote what it was meant to write.
CREATE FUNCTION cyclonetix__state.expect_rows(what text, wanted bigint, written bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF wanted <> written THEN
        RAISE EXCEPTION '% wrote % rows instead of %', what, written, wanted USING ERRCODE = 'CY002';
    END IF;
END $$;

CREATE FUNCTION cyclonetix__state.run_status_name(status integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE status WHEN 0 THEN 'pending' WHEN 1 THEN 'running' WHEN 2 THEN 'paused'
                       WHEN 10 THEN 'completed' WHEN 11 THEN 'failed' WHEN 12 THEN 'cancelled' END
$$;

CREATE FUNCTION cyclonetix__state.task_status_name(status integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE status WHEN 0 THEN 'pending' WHEN 1 THEN 'queued' WHEN 2 THEN 'running' WHEN 3 THEN 'waiting'
                       WHEN 10 THEN 'completed' WHEN 11 THEN 'failed' WHEN 12 THEN 'skipped'
                       WHEN 13 THEN 'upstream_failed' WHEN 14 THEN 'cancelled' END
$$;

CREATE FUNCTION cyclonetix__state.cause_name(cause integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE cause WHEN 1 THEN 'exit' WHEN 2 THEN 'signal' WHEN 3 THEN 'timeout' WHEN 4 THEN 'start'
                      WHEN 5 THEN 'cancel' WHEN 6 THEN 'upstream' WHEN 7 THEN 'agent_lost'
                      WHEN 8 THEN 'agent_stopped' WHEN 9 THEN 'rescues' WHEN 10 THEN 'refused'
                      WHEN 11 THEN 'approval' WHEN 12 THEN 'rejected' WHEN 13 THEN 'paused' WHEN 14 THEN 'not_chosen'
                      WHEN 15 THEN 'trigger_rule' WHEN 16 THEN 'evaluation' WHEN 17 THEN 'group' WHEN 18 THEN 'kept'
                      WHEN 19 THEN 'skip' WHEN 20 THEN 'stopped' WHEN 21 THEN 'run_timeout' WHEN 22 THEN 'too_many' END
$$;

-- Makes a partition unless it is there. It is attached, not created in place, because that takes a
-- lighter lock on the parent: commits go on.
CREATE FUNCTION cyclonetix__state.ensure_partition(parent text, suffix text, lower_bound text, upper_bound text, options text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    leaf text := parent || '_' || suffix;
BEGIN
    IF to_regclass('cyclonetix__state.' || quote_ident(leaf)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE cyclonetix__state.%I (LIKE cyclonetix__state.%I INCLUDING ALL) WITH (%s)', leaf, parent, options);
    EXECUTE format('ALTER TABLE cyclonetix__state.%I ATTACH PARTITION cyclonetix__state.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, leaf, lower_bound, upper_bound);
    RETURN true;
END $$;

-- The partitions of a table, as JSON: name, bound (FOR VALUES FROM ('…') TO ('…')), and whether a detach was begun.
CREATE FUNCTION cyclonetix__state.partitions(parent text) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT coalesce(json_agg(json_build_object('name', c.relname, 'bound', pg_get_expr(c.relpartbound, c.oid),
                                               'detaching', i.inhdetachpending) ORDER BY c.relname), '[]')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('cyclonetix__state.' || quote_ident(parent))
$$;

-- The advisory keys that some session of this database holds.
CREATE FUNCTION cyclonetix__state.held_locks() RETURNS bigint[]
LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg((l.classid::bigint << 32) | l.objid::bigint), '{}')
    FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
$$;

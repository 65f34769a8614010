-- The state of Cyclonetix. The words are explained in docs/design and in the Go package engine.
--
-- cyclonetix         views that people and programs may rely on
-- cyclonetix__state  the tables behind them, written by the program alone
--
-- Another cluster on the same server has its own schemas: the program replaces these two names.

CREATE SCHEMA IF NOT EXISTS cyclonetix;
CREATE SCHEMA IF NOT EXISTS cyclonetix__state;

-- Settings that all programs of a cluster share.
CREATE TABLE cyclonetix__state.settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);
-- compatible_from: the oldest number of a program's newest migration that may work with this schema.
INSERT INTO cyclonetix__state.settings (name, value) VALUES ('buckets', '256'), ('compatible_from', '1');

-- Definitions. A row holds for the revisions from_revision to to_revision (null: until now).
CREATE TABLE cyclonetix__state.revisions (
    revision   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    source     text NOT NULL
);

CREATE TABLE cyclonetix__state.definitions (
    kind          text   NOT NULL CHECK (kind IN ('task', 'dag', 'context', 'parameter_set')),
    id            text   NOT NULL,
    from_revision bigint NOT NULL,
    to_revision   bigint CHECK (to_revision >= from_revision),
    hash          uuid   NOT NULL,
    body          json   NOT NULL,
    PRIMARY KEY (kind, id, from_revision)
);
CREATE UNIQUE INDEX definitions_current ON cyclonetix__state.definitions (kind, id) WHERE to_revision IS NULL;

-- What runs share, by the hash of the content. last_used is touched at most once a day.
CREATE TABLE cyclonetix__state.task_specs (
    hash      uuid PRIMARY KEY,
    task_id   text NOT NULL,
    queue     text NOT NULL,
    priority  smallint NOT NULL CHECK (priority BETWEEN 1 AND 4),
    body      json NOT NULL,
    last_used date NOT NULL DEFAULT current_date
);

CREATE TABLE cyclonetix__state.plans (
    hash       uuid PRIMARY KEY,
    node_count integer NOT NULL,
    last_used  date NOT NULL DEFAULT current_date
);

CREATE TABLE cyclonetix__state.plan_nodes (
    plan         uuid      NOT NULL,
    node         integer   NOT NULL,
    name         text      NOT NULL,
    spec         uuid      NOT NULL,
    dependencies integer[] NOT NULL,
    PRIMARY KEY (plan, node)
);

-- Runs. The request is written once; what changes has a table of its own, so that the
-- writers' statement needs no join.
CREATE TABLE cyclonetix__state.runs (
    run_id     uuid        NOT NULL,
    plan       uuid        NOT NULL,
    revision   bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    by_outcome boolean     NOT NULL,
    dag_id     text        NOT NULL,
    name       text,
    context    text,
    actor      text        NOT NULL,
    cause      text        NOT NULL,
    run_values json,
    -- Shown by no view, and given to agents and reruns alone.
    sensitive_values json,
    -- The rules of its DAG that it was started with; null for none.
    options      json,
    logical_date timestamptz,
    rerun_of     uuid,
    PRIMARY KEY (run_id)
) PARTITION BY RANGE (run_id);
CREATE INDEX runs_dag ON cyclonetix__state.runs (dag_id, run_id);

-- status: 0 pending, 1 running, 2 paused, 10 completed, 11 failed, 12 cancelled.
CREATE TABLE cyclonetix__state.run_states (
    run_id          uuid     NOT NULL,
    status          smallint NOT NULL CHECK (status IN (0, 1, 2, 10, 11, 12)),
    -- Why it ends early, where nobody cancelled it: a cause.
    stop            smallint NOT NULL DEFAULT 0 CHECK (stop IN (0, 20, 21, 22)),
    task_count      integer  NOT NULL CHECK (task_count >= 0),
    completed_tasks integer  NOT NULL,
    failed_tasks    integer  NOT NULL,
    -- How often the state was written: tells a write of the row from its making.
    writes          integer  NOT NULL DEFAULT 0,
    -- Counts the changes of its values: the newest in run_updates.
    version         integer  NOT NULL DEFAULT 0 CHECK (version >= 0),
    start_time      timestamptz,
    end_time        timestamptz,
    cancel_time     timestamptz,
    reason          text,
    -- True for a run that had ended and lived again, else null. What was cancelled before may be all that it ends with.
    reopened        boolean,
    -- Set for the few runs that did not complete, so that they have an index. It does not change for the
    -- others, whose updates stay on their page (HOT), as no other index is on what changes.
    unsuccessful    smallint GENERATED ALWAYS AS (CASE WHEN status IN (11, 12) THEN status END) STORED,
    PRIMARY KEY (run_id),
    CONSTRAINT end_time_exactly_when_ended CHECK ((end_time IS NOT NULL) = (status >= 10)),
    CONSTRAINT start_time_once_started CHECK ((start_time IS NOT NULL) = (status <> 0)),
    CONSTRAINT times_in_order CHECK (end_time >= start_time),
    CONSTRAINT cancelled_by_someone CHECK (status <> 12 OR cancel_time IS NOT NULL OR reopened IS TRUE),
    CONSTRAINT counts_add_up CHECK (completed_tasks >= 0 AND failed_tasks >= 0 AND completed_tasks + failed_tasks <= task_count)
) PARTITION BY RANGE (run_id);
CREATE INDEX run_states_unsuccessful ON cyclonetix__state.run_states (unsuccessful, run_id) WHERE unsuccessful IS NOT NULL;

-- Task runs. A task run has no row while it is pending, gets its row when it is queued, and one
-- update at its end with all its times. No index but the key: an index on what changes would
-- halve the writers' speed, because updates would no longer be HOT.
-- status: 1 queued (claimed: running), 3 waiting, 10 completed, 11 failed, 12 skipped,
-- 13 upstream_failed, 14 cancelled.
CREATE TABLE cyclonetix__state.task_runs (
    run_id      uuid        NOT NULL,
    queued_time timestamptz,
    node        integer     NOT NULL,
    status      smallint    NOT NULL,
    attempt     smallint    NOT NULL,
    delivery    smallint    NOT NULL,
    cause       smallint    NOT NULL,
    exit_code   integer,
    start_time  timestamptz,
    end_time    timestamptz,
    agent       bigint,
    reason      text,
    PRIMARY KEY (run_id, node),
    -- Few constraints with several parts each: they are checked at every write of the hottest table. A task run waits for
    -- a retry's delay (cause 0), an approval (11) or the end of a pause (13).
    CONSTRAINT not_ended_has_no_end CHECK (status >= 10 OR (end_time IS NULL AND start_time IS NULL AND attempt >= 1
        AND (status = 1 AND cause = 0 OR status = 3 AND cause IN (0, 11, 13)))),
    -- What stands for its items (17) and what an earlier run did (18) completes without having started.
    CONSTRAINT ended_has_its_end CHECK (status < 10 OR (status <= 14 AND end_time IS NOT NULL
        AND (status <> 10 OR start_time IS NOT NULL OR attempt = 0))),
    -- Without an attempt a task run fails only when its items can't be told (16).
    CONSTRAINT attempt_once_queued CHECK ((attempt >= 1 AND delivery >= 1 AND node >= 0 AND queued_time IS NOT NULL)
        OR (attempt = 0 AND delivery = 0 AND node >= 0 AND queued_time IS NULL AND start_time IS NULL AND agent IS NULL AND exit_code IS NULL
            AND (status IN (12, 13, 14) OR status = 10 AND cause IN (17, 18) OR status = 11 AND cause = 16))),
    CONSTRAINT started_by_an_agent_before_its_end CHECK (start_time IS NULL OR (agent IS NOT NULL AND end_time >= start_time))
) PARTITION BY RANGE (run_id);

-- Attempts that a later one superseded. retired: 0, or 1 for one that had ended for good until a person wanted something
-- else, or 2 for one that waited to be tried again when that happened. What came before does not count as retries any more.
CREATE TABLE cyclonetix__state.attempts (
    run_id     uuid     NOT NULL,
    node       integer  NOT NULL,
    attempt    smallint NOT NULL CHECK (attempt >= 1),
    status     smallint NOT NULL CHECK (status IN (10, 11, 12, 14)),
    cause      smallint NOT NULL,
    retired    smallint NOT NULL DEFAULT 0 CHECK (retired IN (0, 1, 2)),
    exit_code  integer,
    queued_time timestamptz,
    start_time timestamptz,
    end_time   timestamptz,
    agent      bigint,
    reason     text,
    PRIMARY KEY (run_id, node, attempt),
    CONSTRAINT times_in_order CHECK (end_time >= start_time)
) PARTITION BY RANGE (run_id);

-- Nodes that were added to a run, or have other parents than in its plan.
CREATE TABLE cyclonetix__state.run_nodes (
    run_id       uuid      NOT NULL,
    node         integer   NOT NULL CHECK (node >= 0),
    spec         uuid      NOT NULL,
    name         text      NOT NULL,
    dependencies integer[] NOT NULL,
    -- The name of the first iteration; null for a node that is the first.
    iteration_of text,
    PRIMARY KEY (run_id, node)
) PARTITION BY RANGE (run_id);
CREATE INDEX run_nodes_iterations ON cyclonetix__state.run_nodes (run_id, iteration_of) WHERE iteration_of IS NOT NULL;

-- What task runs that completed gave to later ones. task is the node's name without its iteration.
CREATE TABLE cyclonetix__state.outputs (
    run_id uuid    NOT NULL,
    node   integer NOT NULL,
    task   text    NOT NULL,
    body   json    NOT NULL CHECK (json_typeof(body) = 'object'),
    PRIMARY KEY (run_id, node)
) PARTITION BY RANGE (run_id);
CREATE INDEX outputs_task ON cyclonetix__state.outputs (run_id, task);

-- What evaluation points changed in the values of a run, in order.
CREATE TABLE cyclonetix__state.run_updates (
    run_id  uuid    NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    body    json    NOT NULL,
    PRIMARY KEY (run_id, version)
) PARTITION BY RANGE (run_id);

-- What happened to a run or, where node is not -1, to a task run, and has no column: who cancelled it, and when. Many
-- things may happen at one instant.
CREATE SEQUENCE cyclonetix__state.run_event_ids;
CREATE TABLE cyclonetix__state.run_events (
    run_id uuid        NOT NULL,
    id     bigint      NOT NULL DEFAULT nextval('cyclonetix__state.run_event_ids'),
    at     timestamptz NOT NULL,
    node   integer     NOT NULL CHECK (node >= -1),
    attempt smallint   NOT NULL DEFAULT 0,
    cause  smallint    NOT NULL DEFAULT 0,
    kind   text        NOT NULL,
    actor  text        NOT NULL,
    detail json,
    PRIMARY KEY (run_id, id)
) PARTITION BY RANGE (run_id);

-- stream: 1 stdout, 2 stderr, 3 the agent itself.
CREATE TABLE cyclonetix__state.logs (
    run_id  uuid        NOT NULL,
    node    integer     NOT NULL,
    attempt smallint    NOT NULL,
    stream  smallint    NOT NULL CHECK (stream IN (1, 2, 3)),
    seq     integer     NOT NULL,
    at      timestamptz NOT NULL,
    body    bytea       NOT NULL,
    PRIMARY KEY (run_id, node, attempt, seq)
) PARTITION BY RANGE (run_id);

-- Custom run ids (kind 1) and idempotency keys (kind 2), unique over all partitions.
CREATE TABLE cyclonetix__state.run_names (
    kind   smallint NOT NULL CHECK (kind IN (1, 2)),
    name   text     NOT NULL,
    run_id uuid     NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX run_names_run ON cyclonetix__state.run_names (run_id);

-- How the work of a bucket is found.
CREATE TABLE cyclonetix__state.live_runs (
    bucket smallint NOT NULL,
    run_id uuid     NOT NULL,
    PRIMARY KEY (bucket, run_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- kind: 1 the delay before a retry, 2 the time to decide on an approval, 3 the time-out of the run (node -1).
CREATE TABLE cyclonetix__state.timers (
    run_id uuid        NOT NULL,
    node   integer     NOT NULL,
    kind   smallint    NOT NULL,
    bucket smallint    NOT NULL,
    due    timestamptz NOT NULL,
    PRIMARY KEY (run_id, node, kind),
    CONSTRAINT of_a_node_or_the_run CHECK (kind IN (1, 2) AND node >= 0 OR kind = 3 AND node = -1)
);
CREATE INDEX timers_due ON cyclonetix__state.timers (bucket, due);

-- How far schedules were carried out, and which logical dates have a run that completed. Both outlive the history.
CREATE TABLE cyclonetix__state.schedules (
    dag_id    text        PRIMARY KEY,
    last_date timestamptz NOT NULL
);

CREATE TABLE cyclonetix__state.dates (
    dag_id       text        NOT NULL,
    logical_date timestamptz NOT NULL,
    run_id       uuid        NOT NULL,
    PRIMARY KEY (dag_id, logical_date)
);

-- Writers: who may change the runs of a bucket. seq is the fence: each commit takes it from n-1 to n.
CREATE TABLE cyclonetix__state.writers (
    writer        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seq           bigint      NOT NULL DEFAULT 0,
    dead          boolean     NOT NULL DEFAULT false,
    orchestrator  text        NOT NULL,
    process       text        NOT NULL,
    -- The advisory lock that its session holds; 0 when it has none.
    lock_key      bigint      NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20);
CREATE INDEX writers_alive ON cyclonetix__state.writers (writer) WHERE NOT dead;

CREATE TABLE cyclonetix__state.writer_beats (
    writer bigint      PRIMARY KEY,
    beat   bigint      NOT NULL,
    at     timestamptz NOT NULL
) WITH (fillfactor = 20);

CREATE TABLE cyclonetix__state.buckets (
    bucket smallint PRIMARY KEY CHECK (bucket BETWEEN 0 AND 4095),
    writer bigint,
    epoch  bigint NOT NULL DEFAULT 0
);
INSERT INTO cyclonetix__state.buckets (bucket) SELECT generate_series(0, 255);

-- Messages to buckets. xid comes before id in the key, because identity values are not in the
-- order of commits: a reader keeps a mark below which it has read everything.
-- kind: 1 submitted (body: its options), 2 report, 3 cancel, 4 lost, 5 command.
CREATE TABLE cyclonetix__state.mailbox (
    bucket     smallint NOT NULL,
    kind       smallint NOT NULL,
    has_values boolean  NOT NULL DEFAULT false,
    xid        xid8     NOT NULL DEFAULT pg_current_xact_id(),
    id         bigint   GENERATED ALWAYS AS IDENTITY,
    run_id     uuid,
    plan       uuid,
    dispatch   bigint,
    dag_id     text,
    actor      text,
    body       bytea,
    PRIMARY KEY (bucket, xid, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
ALTER TABLE cyclonetix__state.mailbox ALTER COLUMN body SET STORAGE EXTERNAL;

-- Messages of runs that could not be committed, kept for a look.
CREATE TABLE cyclonetix__state.dead_letters (
    run_id     uuid        NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    bucket     smallint    NOT NULL,
    kind       smallint    NOT NULL,
    reason     text        NOT NULL,
    body       bytea
);

-- The queue. A row is a delivery: n members of one class (queue and required tags) and priority.
CREATE TABLE cyclonetix__state.dispatch_classes (
    class    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue    text   NOT NULL,
    requires text[] NOT NULL,
    UNIQUE (queue, requires)
);

-- members holds 12 bytes a member: index in runs (2), index in specs (2), node (4), attempt (2),
-- delivery (2), big-endian. A claim that takes a part cuts it between members. versions holds, for each of runs, 1 more than
-- the version of its values that is needed, 0 for a run without values; it is empty when none has any. The claim's columns
-- come last, so that its update logs only them.
CREATE TABLE cyclonetix__state.dispatches (
    id         bigint   GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    class      integer  NOT NULL,
    n          integer  NOT NULL,
    priority   smallint NOT NULL,
    reply_to   smallint NOT NULL,
    queued_at  timestamptz NOT NULL,
    runs       uuid[]   NOT NULL,
    dags       text[]   NOT NULL,
    versions   integer[] NOT NULL,
    specs      uuid[]   NOT NULL,
    members    bytea    NOT NULL,
    lost       boolean  NOT NULL DEFAULT false,
    claimed_at timestamptz,
    claimed_by bigint,
    CONSTRAINT members_are_whole CHECK (n >= 1 AND octet_length(members) = 12 * n),
    CONSTRAINT claimed_by_and_at CHECK ((claimed_by IS NULL) = (claimed_at IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
ALTER TABLE cyclonetix__state.dispatches ALTER COLUMN members SET STORAGE EXTERNAL;
CREATE INDEX dispatches_open ON cyclonetix__state.dispatches (class, priority, id) WHERE claimed_by IS NULL;

-- Queued tasks that wait in a writer's memory: absolute numbers, written in the writer's commits.
CREATE TABLE cyclonetix__state.backlog (
    writer   bigint   NOT NULL,
    queue    text     NOT NULL,
    priority smallint NOT NULL,
    waiting  integer  NOT NULL CHECK (waiting >= 0),
    oldest   timestamptz,
    PRIMARY KEY (writer, queue, priority)
) WITH (fillfactor = 50);

-- Agents. A registration is an incarnation; a claim holds its row in share mode, so that
-- declaring it dead waits for the claim or defeats it. Beats are apart, or they would queue behind claims.
CREATE TABLE cyclonetix__state.agents (
    incarnation           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id              text    NOT NULL,
    status                text    NOT NULL DEFAULT 'live' CHECK (status IN ('live', 'stopped', 'lost')),
    queues                text[]  NOT NULL,
    tags                  text[]  NOT NULL,
    slots                 integer NOT NULL CHECK (slots >= 1),
    version               text    NOT NULL,
    heartbeat_interval_ms integer NOT NULL CHECK (heartbeat_interval_ms > 0),
    process               text    NOT NULL,
    -- The advisory lock that its session holds; 0 when it has none, behind a pooler.
    lock_key              bigint  NOT NULL,
    registered_at         timestamptz NOT NULL DEFAULT now(),
    ended_at              timestamptz,
    CONSTRAINT ended_exactly_when_not_live CHECK ((ended_at IS NULL) = (status = 'live'))
);
CREATE UNIQUE INDEX agents_live ON cyclonetix__state.agents (agent_id) WHERE status = 'live';

CREATE TABLE cyclonetix__state.agent_beats (
    incarnation bigint      PRIMARY KEY,
    beat        bigint      NOT NULL,
    at          timestamptz NOT NULL
) WITH (fillfactor = 20);

-- kind: 1 kill.
CREATE TABLE cyclonetix__state.orders (
    id         bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent      bigint   NOT NULL,
    kind       smallint NOT NULL,
    run_id     uuid     NOT NULL,
    node       integer  NOT NULL,
    attempt    smallint NOT NULL,
    delivery   smallint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_agent ON cyclonetix__state.orders (agent);

-- One row a commit, for live pages: what changed, packed (see internal/postgres/wire.go).
CREATE TABLE cyclonetix__state.feed (
    writer bigint      NOT NULL,
    seq    bigint      NOT NULL,
    at     timestamptz NOT NULL,
    body   bytea       NOT NULL,
    PRIMARY KEY (writer, seq, at)
) PARTITION BY RANGE (at);

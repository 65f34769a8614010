-- What tasks set aside on their agents, and what agents have. Classes, agents and specifications from before have none.
-- A program that knows nothing of this would give an agent tasks that it has no room for: compatible_from rises.

ALTER TABLE cyclonetix__state.dispatch_classes
    ADD COLUMN cpu_millis integer NOT NULL DEFAULT 0 CHECK (cpu_millis >= 0),
    ADD COLUMN memory_mb  integer NOT NULL DEFAULT 0 CHECK (memory_mb >= 0),
    ADD COLUMN gpu        integer NOT NULL DEFAULT 0 CHECK (gpu >= 0),
    ADD COLUMN disk_mb    integer NOT NULL DEFAULT 0 CHECK (disk_mb >= 0),
    DROP CONSTRAINT dispatch_classes_queue_requires_key,
    ADD UNIQUE (queue, requires, cpu_millis, memory_mb, gpu, disk_mb);

ALTER TABLE cyclonetix__state.agents
    ADD COLUMN cpu_millis integer NOT NULL DEFAULT 0 CHECK (cpu_millis >= 0),
    ADD COLUMN memory_mb  integer NOT NULL DEFAULT 0 CHECK (memory_mb >= 0),
    ADD COLUMN gpu        integer NOT NULL DEFAULT 0 CHECK (gpu >= 0),
    ADD COLUMN disk_mb    integer NOT NULL DEFAULT 0 CHECK (disk_mb >= 0);

UPDATE cyclonetix__state.settings SET value = '5' WHERE name = 'compatible_from';

CREATE OR REPLACE VIEW cyclonetix.agents AS
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
       a.ended_at                     AS ended_at,
       (a.cpu_millis / 1000.0)::double precision AS cpu,
       a.memory_mb                    AS memory_mb,
       a.gpu                          AS gpu,
       a.disk_mb                      AS disk_mb
FROM cyclonetix__state.agents a
LEFT JOIN cyclonetix__state.agent_beats b ON b.incarnation = a.incarnation
LEFT JOIN (SELECT claimed_by, sum(n)::integer AS running FROM cyclonetix__state.dispatches
           WHERE claimed_by IS NOT NULL GROUP BY claimed_by) h ON h.claimed_by = a.incarnation;

COMMENT ON COLUMN cyclonetix.agents.cpu IS 'How many processor cores its tasks may set aside together.';
COMMENT ON COLUMN cyclonetix.agents.memory_mb IS 'How much memory its tasks may set aside together, in MB.';
COMMENT ON COLUMN cyclonetix.agents.gpu IS 'How many graphics processors its tasks may set aside together.';
COMMENT ON COLUMN cyclonetix.agents.disk_mb IS 'How much space its tasks may set aside together, in MB: what was free when it started.';

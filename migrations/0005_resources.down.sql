DROP VIEW cyclonetix.agents;

-- What waits or runs with resources goes on without them.
UPDATE cyclonetix__state.dispatches d SET class = f.first
FROM cyclonetix__state.dispatch_classes c,
     (SELECT queue, requires, min(class) AS first FROM cyclonetix__state.dispatch_classes GROUP BY queue, requires) f
WHERE c.class = d.class AND f.queue = c.queue AND f.requires = c.requires AND f.first <> c.class;
DELETE FROM cyclonetix__state.dispatch_classes c
USING cyclonetix__state.dispatch_classes o
WHERE o.queue = c.queue AND o.requires = c.requires AND o.class < c.class;

ALTER TABLE cyclonetix__state.dispatch_classes
    DROP COLUMN cpu_millis, DROP COLUMN memory_mb, DROP COLUMN gpu, DROP COLUMN disk_mb,
    ADD UNIQUE (queue, requires);

ALTER TABLE cyclonetix__state.agents
    DROP COLUMN cpu_millis, DROP COLUMN memory_mb, DROP COLUMN gpu, DROP COLUMN disk_mb;

UPDATE cyclonetix__state.settings SET value = '1' WHERE name = 'compatible_from';

CREATE VIEW cyclonetix.agents AS
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
       a.ended_at                     AS ended_at
FROM cyclonetix__state.agents a
LEFT JOIN cyclonetix__state.agent_beats b ON b.incarnation = a.incarnation
LEFT JOIN (SELECT claimed_by, sum(n)::integer AS running FROM cyclonetix__state.dispatches
           WHERE claimed_by IS NOT NULL GROUP BY claimed_by) h ON h.claimed_by = a.incarnation;

COMMENT ON VIEW cyclonetix.agents IS 'Every registration of an agent that is kept.';
COMMENT ON COLUMN cyclonetix.agents.agent_id IS 'The agent''s id.';
COMMENT ON COLUMN cyclonetix.agents.incarnation IS 'The number of this registration; no other ever has it.';
COMMENT ON COLUMN cyclonetix.agents.status IS 'live, stopped (it said so) or lost (it was declared dead).';
COMMENT ON COLUMN cyclonetix.agents.queues IS 'The queues that it serves; empty for all.';
COMMENT ON COLUMN cyclonetix.agents.tags IS 'The tags that it carries.';
COMMENT ON COLUMN cyclonetix.agents.slots IS 'How many tasks it runs at once, over all its queues.';
COMMENT ON COLUMN cyclonetix.agents.running IS 'How many task runs it has claimed and not yet finished, by delivery.';
COMMENT ON COLUMN cyclonetix.agents.version IS 'The version of its program.';
COMMENT ON COLUMN cyclonetix.agents.registered_at IS 'When it registered.';
COMMENT ON COLUMN cyclonetix.agents.last_heartbeat IS 'When its last heartbeat was stored.';
COMMENT ON COLUMN cyclonetix.agents.ended_at IS 'When it stopped or was declared dead; null while it lives.';

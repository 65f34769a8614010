-- name: Fence :exec
SELECT cyclonetix__state.fence(@writer, @seq);

-- name: InsertWriter :one
INSERT INTO cyclonetix__state.writers (orchestrator, process, lock_key) VALUES (@orchestrator, @process, @lock_key) RETURNING writer;

-- name: ListLiveWriters :many
SELECT w.writer, w.orchestrator, w.process, w.lock_key, w.started_at, w.seq, coalesce(b.beat, 0)::bigint AS beat,
       (w.lock_key = ANY (cyclonetix__state.held_locks()))::boolean AS locked,
       coalesce(extract(epoch FROM now() - b.at), 'infinity')::float8 AS beat_age_seconds
FROM cyclonetix__state.writers w LEFT JOIN cyclonetix__state.writer_beats b ON b.writer = w.writer
WHERE NOT w.dead;

-- name: LockWriter :exec
-- Waits for a commit of this writer that is under way, or ends the session that has been holding it up.
SELECT cyclonetix__state.lock_row('cyclonetix__state.writers', 'writer', @writer);

-- name: DeclareWriterDead :execrows
UPDATE cyclonetix__state.writers SET dead = true WHERE writer = @writer AND NOT dead;

-- name: GetWriterSeq :one
SELECT seq, dead FROM cyclonetix__state.writers WHERE writer = @writer;

-- name: TakeBuckets :many
-- The buckets that nobody else has, for these writers in turn.
UPDATE cyclonetix__state.buckets b SET writer = (@writers::bigint[])[1 + b.bucket % cardinality(@writers::bigint[])], epoch = epoch + 1
WHERE NOT EXISTS (SELECT FROM cyclonetix__state.writers w WHERE w.writer = b.writer AND w.writer <> ALL (@writers::bigint[]) AND NOT w.dead)
RETURNING bucket;

-- name: DeleteDeadWriters :exec
DELETE FROM cyclonetix__state.writers w
WHERE w.dead AND w.started_at < now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM cyclonetix__state.buckets b WHERE b.writer = w.writer);

-- name: DeleteDeadWriterBeats :exec
DELETE FROM cyclonetix__state.writer_beats b WHERE NOT EXISTS (SELECT FROM cyclonetix__state.writers w WHERE w.writer = b.writer AND NOT w.dead);

-- name: DeleteDeadBacklog :exec
DELETE FROM cyclonetix__state.backlog b WHERE NOT EXISTS (SELECT FROM cyclonetix__state.writers w WHERE w.writer = b.writer AND NOT w.dead);

-- name: Beat :exec
INSERT INTO cyclonetix__state.writer_beats (writer, beat, at) SELECT writer, 1, now() FROM unnest(@writers::bigint[]) AS u (writer)
ON CONFLICT (writer) DO UPDATE SET beat = writer_beats.beat + 1, at = now();

-- name: Tick :one
-- All that the writers of an orchestrator ask once a second, in one statement.
SELECT clock_timestamp()::timestamptz AS now,
       ARRAY(SELECT w.writer FROM cyclonetix__state.writers w WHERE w.writer = ANY (@writers::bigint[]) AND NOT w.dead)::bigint[] AS living,
       pg_postmaster_start_time()::timestamptz AS server_started,
       -- As in ReadMail: a bucket without unread mail may be marked as read up to here.
       pg_snapshot_xmin(pg_current_snapshot())::xid8 AS xmin,
       ARRAY(SELECT u.bucket
             FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@mark_xids::xid8[]), unnest(@mark_ids::bigint[])) AS u (bucket, xid, id),
                  LATERAL (SELECT FROM cyclonetix__state.mailbox m WHERE m.bucket = u.bucket AND (m.xid, m.id) > (u.xid, u.id)
                           ORDER BY m.bucket, m.xid, m.id LIMIT 1) m)::smallint[] AS mail_buckets,
       EXISTS (SELECT FROM unnest(@buckets::smallint[]) AS u (bucket),
                    LATERAL (SELECT FROM cyclonetix__state.timers t
                             WHERE t.bucket = u.bucket AND t.due <= now() + interval '1 second' LIMIT 1) t)::boolean AS timers_due,
       (@sweep::boolean AND EXISTS (SELECT FROM cyclonetix__state.dispatches d
               WHERE d.claimed_by IS NOT NULL AND NOT d.lost
                 AND NOT EXISTS (SELECT FROM cyclonetix__state.agents a WHERE a.incarnation = d.claimed_by AND a.status = 'live')))::boolean AS orphans,
       (SELECT coalesce(json_agg(json_build_object(
                   'incarnation', a.incarnation, 'agent_id', a.agent_id, 'queues', a.queues, 'tags', a.tags, 'slots', a.slots,
                   'cpu_millis', a.cpu_millis, 'memory_mb', a.memory_mb, 'gpu', a.gpu, 'disk_mb', a.disk_mb,
                   'version', a.version, 'heartbeat_interval_ms', a.heartbeat_interval_ms, 'process', a.process,
                   'beat', coalesce(b.beat, 0), 'locked', a.lock_key = 0 OR a.lock_key = ANY (held.keys))), '[]')
        FROM cyclonetix__state.agents a LEFT JOIN cyclonetix__state.agent_beats b ON b.incarnation = a.incarnation,
             (SELECT cyclonetix__state.held_locks() AS keys) held
        WHERE a.status = 'live')::json AS agents;

-- name: WriteBacklog :exec
INSERT INTO cyclonetix__state.backlog (writer, queue, priority, waiting, oldest)
SELECT @writer::bigint, u.queue, u.priority, u.waiting, nullif(u.oldest, '0001-01-01 00:00:00+00')
FROM ROWS FROM (unnest(@queues::text[]), unnest(@priorities::smallint[]), unnest(@waitings::integer[]), unnest(@oldests::timestamptz[]))
     AS u (queue, priority, waiting, oldest)
ON CONFLICT (writer, queue, priority) DO UPDATE SET waiting = excluded.waiting, oldest = excluded.oldest;

-- name: InsertFeed :exec
INSERT INTO cyclonetix__state.feed (writer, seq, at, body) VALUES (@writer, @seq, @at, @body);

-- name: InsertFeedAtRevision :exec
-- InsertFeed of a commit that stands on the revision of the definitions.
INSERT INTO cyclonetix__state.feed (writer, seq, at, body)
SELECT @writer::bigint, @seq::bigint, @at::timestamptz, @body::bytea WHERE cyclonetix__state.at_revision(@revision);

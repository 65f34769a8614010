-- name: InsertMail :exec
INSERT INTO cyclonetix__state.mailbox (bucket, kind, run_id, actor, body) VALUES (@bucket, @kind, @run_id, @actor, @body);

-- name: InsertReport :exec
INSERT INTO cyclonetix__state.mailbox (bucket, kind, body) VALUES (@bucket, 2, @body);

-- name: InsertSubmitMail :exec
INSERT INTO cyclonetix__state.mailbox (bucket, kind, run_id, plan, dag_id, has_values, body)
SELECT u.bucket, 1, u.run_id, u.plan, u.dag_id, u.has_values, nullif(u.body, '')
FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@run_ids::uuid[]), unnest(@plans::uuid[]), unnest(@dag_ids::text[]), unnest(@has_values::boolean[]),
                unnest(@options::bytea[]))
     AS u (bucket, run_id, plan, dag_id, has_values, body);

-- name: ReadMail :many
-- Each bucket is read above its own mark, so that rows that were deleted under an old snapshot are not walked through.
-- xmin is below every transaction that may still commit mail: the marks never pass it.
SELECT m.bucket, m.xid, m.id, m.kind, m.has_values, m.run_id, m.plan, m.dispatch, m.dag_id, m.actor, m.body,
       pg_snapshot_xmin(pg_current_snapshot())::xid8 AS xmin
FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@mark_xids::xid8[]), unnest(@mark_ids::bigint[])) AS u (bucket, xid, id),
     LATERAL (SELECT * FROM cyclonetix__state.mailbox m
              WHERE m.bucket = u.bucket AND (m.xid, m.id) > (u.xid, u.id) ORDER BY m.bucket, m.xid, m.id LIMIT @most_of_bucket) m
LIMIT @most;

-- name: DeleteMail :exec
WITH gone AS (
    DELETE FROM cyclonetix__state.mailbox
    WHERE ctid = ANY (ARRAY(
        SELECT m.ctid
        FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@xids::xid8[]), unnest(@ids::bigint[])) AS u (bucket, xid, id),
             LATERAL (SELECT ctid FROM cyclonetix__state.mailbox m
                      WHERE m.bucket = u.bucket AND m.xid = u.xid AND m.id = u.id LIMIT 1) m
    ))
    RETURNING 1
)
SELECT cyclonetix__state.expect_rows('mail', @wanted, count(*)) FROM gone;

-- name: KeepDeadLetters :exec
INSERT INTO cyclonetix__state.dead_letters (run_id, bucket, kind, reason, body)
SELECT @run_id::uuid, m.bucket, m.kind, @reason::text, m.body
FROM ROWS FROM (unnest(@buckets::smallint[]), unnest(@xids::xid8[]), unnest(@ids::bigint[])) AS u (bucket, xid, id),
     LATERAL (SELECT * FROM cyclonetix__state.mailbox m
              WHERE m.bucket = u.bucket AND m.xid = u.xid AND m.id = u.id LIMIT 1) m;

-- name: CountUnreadSubmits :one
SELECT count(*) FROM (SELECT FROM cyclonetix__state.mailbox WHERE kind = 1 LIMIT @most) AS unread;

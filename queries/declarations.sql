-- name: Declare :exec
-- What servers declared that have been gone for a day is forgotten.
WITH gone AS (
    DELETE FROM cyclonetix__state.declarations WHERE at < now() - interval '1 day' AND server <> @server
)
INSERT INTO cyclonetix__state.declarations AS d (server, queues, default_context, at, changed_at)
VALUES (@server, @queues, @default_context, now(), now())
ON CONFLICT (server) DO UPDATE
SET queues = excluded.queues, default_context = excluded.default_context, at = excluded.at,
    changed_at = CASE WHEN d.queues = excluded.queues AND d.default_context = excluded.default_context
                      THEN d.changed_at ELSE excluded.changed_at END;

-- name: ListDeclarations :many
-- Those that are not much older than the newest: when nobody declares, because no server is up or the database was away, what was
-- declared still counts.
SELECT queues, default_context, changed_at FROM cyclonetix__state.declarations
WHERE at >= (SELECT max(at) FROM cyclonetix__state.declarations) - make_interval(secs => @counts_for_seconds)
ORDER BY server;

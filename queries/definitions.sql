-- name: GetRevision :one
SELECT coalesce(max(r.revision), 0)::bigint AS newest FROM cyclonetix__state.revisions r;

-- name: InsertRevision :one
INSERT INTO cyclonetix__state.revisions (source) VALUES (@source) RETURNING revision;

-- name: ListDefinitionHashes :many
SELECT kind, id, hash FROM cyclonetix__state.definitions WHERE to_revision IS NULL;

-- name: ListDefinitions :many
SELECT kind, id, body FROM cyclonetix__state.definitions
WHERE from_revision <= @revision AND (to_revision IS NULL OR to_revision >= @revision)
ORDER BY kind, id;

-- name: CloseDefinitions :exec
UPDATE cyclonetix__state.definitions SET to_revision = @last_revision
WHERE to_revision IS NULL
  AND (kind, id) IN (SELECT u.kind, u.id FROM ROWS FROM (unnest(@kinds::text[]), unnest(@ids::text[])) AS u (kind, id));

-- name: InsertDefinitions :exec
INSERT INTO cyclonetix__state.definitions (kind, id, from_revision, hash, body)
SELECT u.kind, u.id, @revision::bigint, u.hash, u.body::json
FROM ROWS FROM (unnest(@kinds::text[]), unnest(@ids::text[]), unnest(@hashes::uuid[]), unnest(@bodies::text[])) AS u (kind, id, hash, body);

-- name: ListListeners :many
-- The current definitions of DAGs that runs of others start. The conditions are those of the index definitions_listening.
SELECT id, body FROM cyclonetix__state.definitions
WHERE kind = 'dag' AND to_revision IS NULL AND (body #> '{triggers,dag_completed}') IS NOT NULL;

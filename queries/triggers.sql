-- name: ListFileArrivals :many
SELECT file, size, modified FROM cyclonetix__state.file_arrivals WHERE dag_id = @dag_id;

-- name: WriteFileArrivals :exec
-- In order of the key, so that two who write the same do not deadlock.
INSERT INTO cyclonetix__state.file_arrivals (dag_id, file, size, modified)
SELECT @dag_id::text, u.file, u.size, u.modified
FROM ROWS FROM (unnest(@files::uuid[]), unnest(@sizes::bigint[]), unnest(@modifieds::bigint[])) AS u (file, size, modified)
ORDER BY u.file
ON CONFLICT (dag_id, file) DO UPDATE SET size = excluded.size, modified = excluded.modified;

-- name: DeleteFileArrivals :exec
DELETE FROM cyclonetix__state.file_arrivals WHERE dag_id = @dag_id AND file = ANY (@files::uuid[]);

-- name: DeleteStrayFileArrivals :exec
-- Those of DAGs that are gone.
DELETE FROM cyclonetix__state.file_arrivals a
WHERE NOT EXISTS (SELECT FROM cyclonetix__state.definitions d WHERE d.kind = 'dag' AND d.id = a.dag_id AND d.to_revision IS NULL);

-- name: InsertLogs :exec
INSERT INTO cyclonetix__state.logs (run_id, node, attempt, stream, seq, at, body)
SELECT * FROM ROWS FROM (unnest(@run_ids::uuid[]), unnest(@nodes::integer[]), unnest(@attempts::smallint[]), unnest(@streams::smallint[]),
                         unnest(@seqs::integer[]), unnest(@ats::timestamptz[]), unnest(@bodies::bytea[]))
       AS u (run_id, node, attempt, stream, seq, at, body)
ON CONFLICT (run_id, node, attempt, seq) DO NOTHING;

-- name: ListLogs :many
SELECT attempt, stream, seq, at, body FROM cyclonetix__state.logs
WHERE run_id = @run_id AND node = @node AND (attempt, seq) > (@attempt::smallint, @seq::integer)
ORDER BY attempt, seq LIMIT @most;

DROP FUNCTION cyclonetix__state.held_locks, cyclonetix__state.partitions, cyclonetix__state.ensure_partition, cyclonetix__state.cause_name, cyclonetix__state.task_status_name,
    cyclonetix__state.run_status_name, cyclonetix__state.expect_rows, cyclonetix__state.now_after, cyclonetix__state.lock_row, cyclonetix__state.fence;

DROP VIEW cyclonetix.queues, cyclonetix.agents, cyclonetix.task_runs, cyclonetix.runs, cyclonetix__state.claimed_members;

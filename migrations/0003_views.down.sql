DROP VIEW cyclonetix.queues, cyclonetix.agents, cyclonetix.events, cyclonetix.task_runs, cyclonetix.runs, cyclonetix__state.claimed_members;

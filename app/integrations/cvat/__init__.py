"""The connector to a CVAT server of any edition: a task's shapes become a job, a job's results become tracks."""

"""Labelprop's workers: Celery tasks, leases kept, checkpoints, the warm model, and the commands that need torch."""

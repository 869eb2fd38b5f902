"""Alembic migrations of the job store; run by `airberg.jobs.migrate`."""

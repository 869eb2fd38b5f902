"""PostgreSQL tables over the Airbyte protocol, with psycopg and nothing else."""

"""Flows in the orchestrator (Apache Airflow): registration, triggers, states."""

"""What Airflow needs of Airberg: a DAG bundle, the builder of flows, one operator.

Installed in Airflow's environment, so it imports Airflow's public SDK and the standard library, nothing
else. Only ids, names and schedules of jobs pass through here: no configuration, no secrets.
"""

__version__ = "0.1.0"
"""That of Airberg, whose part it is."""

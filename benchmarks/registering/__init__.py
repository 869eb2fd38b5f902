"""Parts of the benchmark of flows: the service beside its embedded Airflow, and what is asked of both."""

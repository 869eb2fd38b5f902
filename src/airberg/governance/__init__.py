"""DataHub: change proposals for the tables of a job."""

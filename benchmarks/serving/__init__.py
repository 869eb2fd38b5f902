"""Parts of the benchmark of the API: a full job store, the service that is asked, the clients that ask."""

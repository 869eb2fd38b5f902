"""Parts of the benchmark of governance: the tables that are told of, and who tells."""

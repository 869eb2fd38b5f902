"""Jobs and runs: their values, their store, their secrets at rest."""

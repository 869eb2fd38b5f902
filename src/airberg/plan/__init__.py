"""A request becomes a checked, frozen plan."""

"""One run: sources, protocol, columns and lake tied together."""

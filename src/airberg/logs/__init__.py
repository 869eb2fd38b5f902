"""Log lines: what they belong to, what must not be in them, and how they are written."""

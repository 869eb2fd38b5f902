"""The other contenders: programs that load the same lines with their own means and print what they found."""

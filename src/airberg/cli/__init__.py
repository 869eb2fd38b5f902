"""The command `airberg`. Each command imports what it needs when it runs, so that `--help` is quick."""

from airberg.cli.app import main

__all__ = ["main"]

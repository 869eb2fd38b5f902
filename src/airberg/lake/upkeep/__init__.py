"""Upkeep: what keeps tables healthy that are written to many times a day.

Plans are pure functions of facts (`compaction`, `expiry`, `clustering`), what carries them out has the same
name as its command (`compact`, `expire`, `orphans`, `manifests`). Nothing here takes a lock: every commit
asserts the snapshot that it was made on, a sync that was quicker wins, and what it made stale is done again.
Files are deleted only after a commit that names them no more, so that a crash leaves files too many, never
too few.
"""

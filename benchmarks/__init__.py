"""Benchmarks: what is measured, against whom, and the figures. See docs/explanation/benchmarks.md."""

"""Merges measured: the rows, the tables that they are merged into, and a program for each contender."""

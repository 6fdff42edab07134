"""Experiments, campaigns of many runs, statistics over them, and reports."""

"""Measurements of speed; their results are committed beside them."""

"""Filtered ranks, the metrics over them, the popularity baseline, and triple classification."""

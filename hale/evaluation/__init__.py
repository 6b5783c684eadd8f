"""Ranks, the metrics over them, what a model must beat, and triple classification."""

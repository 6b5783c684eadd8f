"""Scores of queries against entities: comparators, activations, and the kernels that sum them."""

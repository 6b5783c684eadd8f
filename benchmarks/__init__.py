"""Timings of hale's parts and of others: ``python -m benchmarks``, or one of its modules alone."""

import hale as hale  # before torch: it tells PyTorch's idle threads not to spin

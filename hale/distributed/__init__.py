"""Processes, what they share, and how they start: all that imports ``torch.distributed``."""

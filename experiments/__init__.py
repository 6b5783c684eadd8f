"""The paper's tables and figures: sweeps of the runs they need, and scripts that read records."""

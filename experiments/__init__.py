"""The paper's tables and figures: the runs they need (``plan``), and scripts that read records."""

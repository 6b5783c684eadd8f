"""The losses: each maps a batch's scores to the scalar that is minimised, and its parts."""

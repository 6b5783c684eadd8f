"""What a run leaves on disk: its record, its trained model, and how they are found again."""

"""What to keep and what to let go: decisions on values, which touch nothing."""

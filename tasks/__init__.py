"""What the work is."""

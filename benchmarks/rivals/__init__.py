"""What people would use instead; each does the same calls and keeps the token in Redis."""

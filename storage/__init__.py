"""What an instance is, where it lies and how it is found. Knows no protocol."""

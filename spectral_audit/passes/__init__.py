"""Forward passes: their functions by name, and convolutions run in a faster way."""

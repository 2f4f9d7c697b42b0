"""Checkpoint files: recognised, scanned, and read without running anything from them."""

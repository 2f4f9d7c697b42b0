"""Two reports side by side: whether they may be compared, and what changed between them, with paired intervals."""

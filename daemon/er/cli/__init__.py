"""The `er` command: one file for each group of what it does."""

"""The console: what an operator sees and steers of ER over ssh."""

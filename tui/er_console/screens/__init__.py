"""The pages and the boxes that ask."""

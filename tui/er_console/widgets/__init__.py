"""Things to draw with: lines in roles, a table with a cursor, a log, rows of keys."""

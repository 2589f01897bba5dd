"""Input of a run: files, tables, rows in their several forms, and the problems they have."""

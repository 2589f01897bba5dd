"""What a run reads: files, tables, rows in their several forms, and the problems they have."""

"""A run: which rows are left, feeding them to an executor, counting, and the summary."""

"""The results file: one line a result, appended in groups, locked, and repaired after a crash."""

"""The results file: one line per result, appended in groups, locked, and repaired after a crash."""

"""The terminal: console, signals, exit codes, numbers and words for people."""

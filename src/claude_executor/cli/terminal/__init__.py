"""The terminal: console, signals, exit codes, and numbers and limits in words."""

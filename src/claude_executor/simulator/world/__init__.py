"""What is set up before a request comes: settings, models, faults, how fast usage may grow."""

"""The conditions that requests meet: settings, models, faults, and the ramp limit."""

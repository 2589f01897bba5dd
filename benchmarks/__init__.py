"""Measurements of claude-executor, beside its peers, against the simulator."""

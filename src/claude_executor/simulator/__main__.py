"""Serves the simulator: ``python -m claude_executor.simulator``."""

from claude_executor.simulator.server.command import simulate

simulate()

"""``python -m claude_executor.simulator``."""

from claude_executor.simulator.command import simulate

simulate()

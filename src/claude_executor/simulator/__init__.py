"""A simulator of the Claude API: rate limits, headers, faults, latency, and a verdict on the client.

The simulator imports nothing else of this package and shares no code with it, so a mistake in one is not
repeated in the other.
"""

from claude_executor.simulator.app import EPOCH, Simulator
from claude_executor.simulator.audit.verdict import Verdict, Violation
from claude_executor.simulator.server.server import RunningSimulator, running
from claude_executor.simulator.world.faults import Change, Faults, Neighbours
from claude_executor.simulator.world.models import MODELS, POOLS, TIERS, Rates
from claude_executor.simulator.world.ramp import Ramp
from claude_executor.simulator.world.settings import ADMIN_KEY, Latency, Lengths, Settings

__all__ = [
    "ADMIN_KEY",
    "EPOCH",
    "MODELS",
    "POOLS",
    "TIERS",
    "Change",
    "Faults",
    "Latency",
    "Lengths",
    "Neighbours",
    "Ramp",
    "Rates",
    "RunningSimulator",
    "Settings",
    "Simulator",
    "Verdict",
    "Violation",
    "running",
]

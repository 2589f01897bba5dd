"""An imitation of the Claude API: true limits, headers, faults, latency, and a verdict on whoever calls it.

It stands alone: it imports nothing else of this package and shares no code with it, so that the two can
disagree.
"""

from claude_executor.simulator.app import EPOCH, Simulator
from claude_executor.simulator.faults import Change, Faults, Neighbours
from claude_executor.simulator.models import MODELS, POOLS, TIERS, Rates
from claude_executor.simulator.ramp import Ramp
from claude_executor.simulator.server import RunningSimulator, running
from claude_executor.simulator.settings import ADMIN_KEY, Latency, Lengths, Settings
from claude_executor.simulator.verdict import Verdict, Violation

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

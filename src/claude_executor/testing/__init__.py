"""Tools to test code that calls Claude: an event loop in virtual time, and an SDK client of the simulator."""

from claude_executor.testing.transport import SimulatorTransport, simulated_client
from claude_executor.testing.virtual_time import DeadlockError, VirtualTimeLoop, loop_time, run_virtual

__all__ = [
    "DeadlockError",
    "SimulatorTransport",
    "VirtualTimeLoop",
    "loop_time",
    "run_virtual",
    "simulated_client",
]

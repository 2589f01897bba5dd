"""A kit for testing code that calls Claude: a loop in virtual time, and the simulator behind the SDK."""

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

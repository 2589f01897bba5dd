"""Names for what can hold a job back, and the instant that never comes."""

import math

CONCURRENCY = "concurrency"
BREAKER = "circuit breaker"
GATE = "told to wait"
START = "starting up"
GROUP = "shared budget"
NEVER = math.inf


OPENING = "opening connections"
SPENDING = "spending cap"

"""The part that decides: what may start now, what must wait and until when, what is tried again.

Nothing in this package waits, reads a clock, throws dice, logs or does I/O. Every method whose answer
depends on time takes ``now`` (seconds on any steady clock), every one that depends on chance takes ``u``
(a number drawn from [0, 1)). A day of traffic can therefore be replayed in a REPL, and a recorded list of
calls always gives the same actions.

Read in this order: `cost`, `bucket`, `limits`, `pool`, `line`, `scheduler`; then what they learn from
(`estimate`, `feedback`) and what they do when things go wrong (`retry`, `breaker`, `window`).
"""

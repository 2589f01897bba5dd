"""The core decides: which request may start now, which must wait and until when, which is retried.

Nothing in this package waits, reads a clock, draws random numbers, logs or does I/O. What happened reaches
the core by ``on_…``; time is ``now`` (seconds on any steady clock), chance is ``u`` (a number from [0, 1)).
So a day of traffic can be replayed in a REPL, and a recorded list of calls always yields the same actions.

Five floors, each of which imports only those before it; read them in this order:

1. `model`: the values all floors share, such as `cost`, `limits`, `failure`, `job`, `actions`.
2. `control`: one mechanism per file, such as `bucket`, `fair_queue`, `breaker`, `limit_estimator`.
3. `pool`: the joint admission of models that share limits, and what they learn from responses.
4. `group`: one executor as a member of a group that shares its limits.
5. `scheduling`: all pools of an executor; start with `scheduler`.
"""

"""Mechanisms of the core, one per file: buckets, breaker, ramp limit, fair queue, estimators and so on."""

"""Gives every request its turn: the pump, callers that wait, attempts under way, and leases of a group."""

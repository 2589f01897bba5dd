"""Sharing one pool's limits with other executors: what a member asks for, and what it makes of the answer."""

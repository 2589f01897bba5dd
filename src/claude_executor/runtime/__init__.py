"""Performs on asyncio what the core decides: the pump, attempts, requests, calls, map, middleware."""

"""Performs on asyncio what the core decides: requests, calls, map, token counts, and the middleware."""

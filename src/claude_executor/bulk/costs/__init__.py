"""Costs of a run: prices, caps, the plan before it, and token counts of a sample."""

"""What a run costs: prices, caps, the plan before it, and token counts of a sample."""

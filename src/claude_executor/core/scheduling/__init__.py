"""All pools of one executor: what starts now, what waits, and what is tried again."""

"""Values that all of the core shares: costs, limits, requests, failures, actions, events."""

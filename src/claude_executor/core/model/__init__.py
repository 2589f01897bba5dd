"""Values that every floor of the core shares: costs, limits, requests, failures, actions, events."""

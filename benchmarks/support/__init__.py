"""What several benchmarks start or read: stubs, worker teams, Redis servers, observed processes."""

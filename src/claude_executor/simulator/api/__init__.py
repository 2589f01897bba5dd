"""The endpoints, and one exchange with each."""

"""The endpoints, and the exchange of one request and its response."""

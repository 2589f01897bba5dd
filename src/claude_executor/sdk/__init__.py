"""All that knows Anthropic's SDK and its HTTP clients: sending, streaming, failures, validation."""

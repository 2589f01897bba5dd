"""Everything that knows Anthropic's SDK and its HTTP clients: sending, streaming, usage, failures, validation."""

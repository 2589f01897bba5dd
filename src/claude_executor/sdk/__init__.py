"""The only place that knows Anthropic's SDK and its HTTP clients: sending, streaming, failures."""

"""The content of answers: tokens, replies, headers, errors, the prompt cache."""

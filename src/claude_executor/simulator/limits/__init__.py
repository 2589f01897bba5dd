"""The rate limits, enforced with true token buckets."""

"""The rate limits, enforced with token buckets."""

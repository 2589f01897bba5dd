"""The mechanisms, one a file: bucket, concurrency, slow start, ramp, breaker, retries, queue. None knows another."""

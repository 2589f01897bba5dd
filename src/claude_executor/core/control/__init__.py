"""The mechanisms, one a file, none of which knows another: bucket, breaker, ramp, queue and so on."""

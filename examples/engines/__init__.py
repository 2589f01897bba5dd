"""Ray and Dask distribute the work, a shared budget keeps the rate limit: one module for each engine."""

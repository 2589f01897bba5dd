"""Ray and Dask carry the work to many machines, the shared budget keeps the limit: a file for each."""

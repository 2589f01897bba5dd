"""Local clusters of Ray and Dask: on the loopback interface, with little memory, removed when done."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from examples.engines.batch import Row

MEMORY = 256 * 2**20


def ray_actors(rows: Sequence[Row], workers: int, shared: str) -> Iterator[Row]:
    with _ray(workers):
        from examples.engines.ray_actors import answers

        yield from answers(rows, workers, shared)


def ray_data(rows: Sequence[Row], workers: int, shared: str) -> Iterator[Row]:
    with _ray(workers):
        from examples.engines.ray_data import answers

        per_batch = max(1, len(rows) // (2 * workers))
        yield from answers(rows, workers, shared, batch=min(500, per_batch))


def dask_workers(rows: Sequence[Row], workers: int, shared: str) -> Iterator[Row]:
    from distributed import Client, LocalCluster

    from examples.engines.dask_workers import answers

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=2,
            memory_limit=4 * MEMORY,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=folder,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield from answers(rows, client, shared)


RECIPES = {"ray_actors": ray_actors, "ray_data": ray_data, "dask_workers": dask_workers}


@contextmanager
def _ray(workers: int) -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # otherwise Ray stores a token in the home directory
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = (
        "0"  # keeps Ray on the loopback interface, on any system
    )
    import ray

    folder = tempfile.mkdtemp(prefix="ray-")
    ray.init(
        num_cpus=workers + 1,
        object_store_memory=MEMORY,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
    )
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

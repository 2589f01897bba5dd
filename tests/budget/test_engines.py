"""The programs for other engines, as they are in examples/: each in small, with its real engine."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("recipe", "needs"), [("ray_actors", "ray"), ("ray_data", "ray"), ("dask_workers", "distributed")]
)
def test_a_recipe_answers_every_row_within_the_limit(recipe, needs):
    """Two workers; some rows are refused, and come out as such. Nothing is left running."""
    lacking = [name for name in (needs, "pyarrow") if find_spec(name) is None]
    lacking += [] if shutil.which("redis-server") else ["redis-server"]
    if lacking:
        why = (
            f"no {', '.join(lacking)} (pip install 'claude-executor[engines]', apt-get install redis-server)"
        )
        if os.environ.get("CI_ENGINES"):
            pytest.fail(why)
        pytest.skip(why)
    command = [sys.executable, "-m", "benchmarks.micro.engines", recipe, "--rows=120", "--wrong-every=20"]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300).stdout)
    assert (found["outcomes"], found["lost"], found["failed"]) == (120, 0, 6)
    assert found["clean"]
    assert found["left"] == []


def test_what_the_page_shows_is_in_the_recipes():
    """Each of its fragments, as it stands there."""
    recipes = "".join(path.read_text() for path in ROOT.glob("examples/engines/*.py"))
    page = (ROOT / "docs" / "engines.md").read_text()
    shown = [block.partition("```")[0] for block in page.split("```py\n")[1:]]
    assert len(shown) >= 3
    for block in shown:
        for part in block.strip().split("\n\n\n"):
            assert part in recipes, part

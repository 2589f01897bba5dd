"""What the pages in docs/ show as python is run, page by page, from top to bottom; as py it is a fragment."""

import re
from pathlib import Path

import pytest

from claude_executor.simulator import Latency, Settings, running

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if "```python" in path.read_text())


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_runs(page, monkeypatch, tmp_path):
    """Each block runs after the ones above it, with nothing but a key and an address in the environment."""
    names = {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)
    with running(Settings(latency=Latency(0.01, 2_000.0))) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
        for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
            exec(compile(block, page, "exec"), names)

"""Who takes part, and the virtual environment each one lives in."""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[2] / ".environments"


@dataclass(frozen=True)
class Contestant:
    """A contestant.

    Attributes:
        name: What the table calls it.
        module: The script that runs it.
        requirements: What its environment needs, pinned; none: it runs in ours.
    """

    name: str
    module: str
    requirements: tuple[str, ...] = ()

    def python(self) -> str | None:
        """The interpreter to run it with, in an environment made on first use; `None` if it cannot be made."""
        if not self.requirements:
            return sys.executable
        home = ENVIRONMENTS / self.name
        python = home / "bin" / "python"
        stamp = home / "installed"
        if stamp.exists() and stamp.read_text() == "\n".join(self.requirements):
            return str(python)
        venv.create(home, with_pip=True, clear=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *self.requirements], check=False, capture_output=True
        )
        if done.returncode:
            return None
        stamp.write_text("\n".join(self.requirements))
        return str(python)


ROSTER = {
    contestant.name: contestant
    for contestant in (
        Contestant("ours", "benchmarks.lab.contestants.ours"),
        Contestant("sdk", "benchmarks.lab.contestants.sdk"),
        Contestant(
            "recipe",
            "benchmarks.lab.contestants.recipe",
            ("anthropic[aiohttp]==2.12.0", "aiolimiter==1.3.0", "tenacity==9.2.0"),
        ),
    )
}

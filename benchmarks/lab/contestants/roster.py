"""Who takes part, and the virtual environment each one lives in."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[2] / ".environments"


class Missing(Exception):
    """A contestant's environment cannot be made; says why."""


@dataclass(frozen=True)
class Contestant:
    """A contestant.

    Attributes:
        name: What the table calls it.
        module: The script that runs it.
        requirements: What its environment needs, pinned; none: it runs in ours.
        environment: The environment's name, where it is not the contestant's.
        names_rows: Whether its requests carry our `metadata`, by which the server tells rows apart. Else two
            rows of equal text are one to the server, and how often a single row was sent is not known.
        timed: Whether it takes requests one by one, as they come, so that a latecomer can be given to it.
        variables: What its process finds in the environment beside ours; `{home}` is where
            that is installed, `{packages}` where its libraries are.
    """

    name: str
    module: str
    requirements: tuple[str, ...] = ()
    environment: str = ""
    names_rows: bool = True
    timed: bool = False
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def home(self) -> Path:
        """Where its environment is."""
        return ENVIRONMENTS / (self.environment or self.name)

    def variables_set(self) -> dict[str, str]:
        """Our environment variables and its own."""
        home = str(self.home)
        packages = sysconfig.get_path("purelib", "venv", vars={"base": home, "platbase": home})
        places = {"home": home, "packages": packages}
        return os.environ | {name: text.format_map(places) for name, text in self.variables.items()}

    def versions(self) -> dict[str, str]:
        """The packages that matter and their versions, as they are installed in its environment."""
        named = [requirement.partition("==")[0].partition("[")[0] for requirement in self.requirements]
        names = [*(["claude-executor"] if self.name == "ours" else named), *_MATTER]
        try:
            done = subprocess.run(
                [self.python(), "-c", _ASK, *names], capture_output=True, text=True, check=True
            )
        except (Missing, subprocess.CalledProcessError):
            return {}
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def python(self) -> str:
        """The interpreter to run it with, in an environment made on first use.

        Raises:
            Missing: The environment cannot be made.
        """
        if not self.requirements:
            return sys.executable
        home = self.home
        python = home / "bin" / "python"
        stamp = home / "installed"
        if stamp.exists() and stamp.read_text() == "\n".join(self.requirements):
            return str(python)
        try:
            venv.create(home, with_pip=True, clear=True)
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", *self.requirements],
                check=True,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(home, ignore_errors=True)
            raise Missing(_last_line(getattr(error, "stderr", None)) or str(error)) from error
        stamp.write_text("\n".join(self.requirements))
        return str(python)


def _last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1] if lines else ""


_MATTER = ("anthropic", "aiohttp", "httpx2", "httpx", "litellm")
"""Beside itself: what it speaks HTTP with."""
_ASK = """
import importlib.metadata, json, sys
installed = {found.name.lower(): found.version for found in importlib.metadata.distributions()}
print(json.dumps({name: installed[name] for name in sys.argv[1:] if name in installed}))
"""
_HERE = "benchmarks.lab.contestants"
_SDK = "anthropic[aiohttp]==2.12.0"
_ASYNC_BATCH_LLM = ("async-batch-llm==0.28.0", _SDK)

ROSTER = {
    contestant.name: contestant
    for contestant in (
        Contestant("ours", f"{_HERE}.ours", timed=True),
        Contestant("sdk", f"{_HERE}.sdk", timed=True),
        Contestant("recipe", f"{_HERE}.recipe", (_SDK, "aiolimiter==1.3.0", "tenacity==9.2.1"), timed=True),
        Contestant("lm-deluge", f"{_HERE}.lm_deluge", ("lm-deluge==0.0.168",), names_rows=False),
        Contestant(
            "async-batch-llm, tuned",
            f"{_HERE}.async_batch_llm_tuned",
            _ASYNC_BATCH_LLM,
            environment="async-batch-llm",
        ),
        Contestant(
            "async-batch-llm",
            f"{_HERE}.async_batch_llm_default",
            _ASYNC_BATCH_LLM,
            environment="async-batch-llm",
        ),
        Contestant(
            "data-designer",
            f"{_HERE}.data_designer",
            ("data-designer==0.9.6",),
            names_rows=False,
            variables={"NEMO_TELEMETRY_ENABLED": "false", "DATA_DESIGNER_HOME": "{home}/settings"},
        ),
        Contestant(
            "curator",
            f"{_HERE}.curator",
            ("bespokelabs-curator==0.1.31",),
            names_rows=False,
            # Without these two it fetches a price list and a tokeniser before it begins.
            variables={
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "TIKTOKEN_CACHE_DIR": "{packages}/litellm/litellm_core_utils/tokenizers",
                "CURATOR_DISABLE_RICH_DISPLAY": "1",
                "TELEMETRY_ENABLED": "0",
                "CURATOR_VIEWER": "0",
            },
        ),
    )
}
"""In the order of the table."""

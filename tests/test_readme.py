"""What the README shows is run: its Python against the simulator, its commands against the command line."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from claude_executor.simulator import Latency, Settings, running

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "sh"
    for line in re.split(r"\n|&&", text)
    if "claude-executor " in line
]


@pytest.mark.parametrize("block", PYTHON, ids=[f"block {i}" for i in range(1, len(PYTHON) + 1)])
def test_python_in_the_readme_runs(block, monkeypatch):
    """Each block runs as it stands, with nothing but a key and an address in the environment."""
    with running(Settings(latency=Latency(0.01, 2_000.0))) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_in_the_readme_exist(command):
    """Each command named exists, and has the options that are shown with it."""
    from claude_executor.cli import cli

    words = shlex.split(command)[1:]
    shown = [word for word in words[1:] if word.startswith("-")]
    result = CliRunner().invoke(cli, [words[0], "--help"])
    assert result.exit_code == 0
    assert [word for word in shown if word not in result.output] == []


def test_the_readme_shows_the_two_lines():
    """The promise of the README: two lines, nothing else."""
    assert "pip install . && claude-executor demo" in README
    assert "pip install -e '.[test]' && pytest" in README


def test_pictures_in_the_readme_are_there():
    """Every picture shown is in the repository."""
    root = Path(__file__).parent.parent
    assert [name for name in re.findall(r"!\[.*?\]\((.*?)\)", README) if not (root / name).exists()] == []


def test_environment_variables_that_no_page_names():
    """The table has each, under the commands that read it."""
    from claude_executor.cli import cli

    table = dict(re.findall(r"\n\| (`[A-Z].*?) \| (.*?) \|", README))
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        for variable in [parameter.envvar for parameter in command.params if parameter.envvar]:
            ending = variable.removeprefix("CLAUDE_EXECUTOR")
            (read_by,) = [readers for names, readers in table.items() if f"{ending}`" in names]
            assert f"`{name}`" in read_by or read_by.startswith("all that send")

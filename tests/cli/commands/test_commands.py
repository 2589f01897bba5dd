"""The command line as a whole, `limits` and `demo`."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from claude_executor.cli import main
from claude_executor.cli.commands import demo_prompts as docstrings


def test_help_names_every_command(invoke):
    """Help lists the commands and the exit codes."""
    result = invoke("--help")
    assert result.exit_code == 0
    for word in ("demo", "run", "limits", "simulate", "Exit codes"):
        assert word in result.stdout


@pytest.mark.parametrize("command", ["demo", "run", "limits", "simulate"])
def test_every_command_explains_itself(invoke, command):
    """Each command has help of its own."""
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runn"], "No such command 'runn'. Did you mean 'run'? (see claude-executor --help)"),
        (["run", "a.jsonl", "--rpm", "-5"], "(see claude-executor run --help)"),
        (["xyz"], "No such command 'xyz'. (see claude-executor --help)"),
        (["run", "a.jsonl", "--modle", "x"], "Did you mean '--model'?"),
        (["run"], "Missing argument 'FILE'"),
        (["demo", "--rows", "0"], "--rows"),
    ],
)
def test_mistakes_take_one_line(monkeypatch, capsys, words, said):
    """Usage errors are one line that says where to read more, and exit 2."""
    monkeypatch.setattr(sys, "argv", ["claude-executor", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert said in stderr


def test_a_bare_call_was_an_error(monkeypatch, capsys):
    """It prints the help, as people expect who try a command for the first time."""
    monkeypatch.setattr(sys, "argv", ["claude-executor"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    printed = capsys.readouterr()
    assert "Usage: claude-executor" in printed.out
    assert "Error" not in printed.out + printed.err


def test_broken_pipe(launch):
    """When nobody reads stdout any more, it ends without a complaint."""
    process = launch("limits", "--tier", "start", "--json")
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(20) == 1
    assert stderr == ""


def test_help_imports_nothing_heavy():
    """Asking for help must not wait for the SDK, the console or a server to be imported."""
    code = (
        "import sys; sys.argv = ['claude-executor', '--help']\n"
        "from claude_executor.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'anthropic', 'rich', 'starlette', 'uvicorn', 'aiohttp', 'genai_prices', 'orjson'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "HEAVY []"


def test_help_is_quick():
    """Help takes under 0.3 seconds, of processor time, for tests may share the machine."""

    def once() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "claude_executor", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(once() for _ in range(3)) < 0.3


def test_version(invoke):
    """The version is the package's."""
    assert re.fullmatch(r"\S+ \d+\.\d+\.\d+\S*\n", invoke("--version").stdout)


def test_limits_of_models(environment, invoke):
    """Each limit comes with where it is from: the API's headers, or the command line."""
    result = invoke("limits", "-m", "claude-haiku-5-5", "-m", "claude-opus-4-8", "--rpm", 500, "--json")
    assert result.exit_code == 0
    found = {(entry["pool"], entry["resource"]): entry for entry in json.loads(result.stdout)}
    assert found["haiku-5.5", "requests"]["limit"] == 500
    assert found["haiku-5.5", "requests"]["source"] == "declared"
    assert found["opus-4", "output tokens"]["limit"] == 400_000
    assert found["opus-4", "output tokens"]["source"] == "response headers"
    assert environment.verdict().requests == 2


def test_limits_as_a_table(environment, invoke):
    """People get a table."""
    result = invoke("limits")
    assert "input tokens" in result.stdout
    assert "2,000,000" in result.stdout


def test_limits_of_an_unknown_model(environment, invoke):
    """A model that does not exist: exit 2, one line."""
    result = invoke("limits", "-m", "claude-nope")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_limits_with_a_wrong_key(environment, invoke):
    """A wrong key: exit 3, one line."""
    environment.set_faults(invalid_key=True)
    result = invoke("limits")
    assert result.exit_code == 3
    assert "check the API key" in result.stderr


def test_demo_in_small(launch, tmp_path):
    """The demo runs to a clean verdict and leaves its picture behind."""
    picture = tmp_path / "panel.svg"
    process = launch("demo", "--rows", 12, "--svg", picture)
    _, stderr = process.communicate(timeout=40)
    assert process.returncode == 0, stderr
    assert "12 of 12 answered" in stderr
    assert "verdict: clean" in stderr
    assert ET.parse(picture).getroot().tag.endswith("svg")
    assert "12 rows" in re.sub(r"<[^>]*>|&#160;", " ", picture.read_text()).replace("  ", " ")


def test_docstrings_are_real_and_many():
    """The demo's prompts: hundreds, in a fixed order, and all different in what they are called."""
    made = list(docstrings.summaries(700, model="m"))
    assert len({request["metadata"]["user_id"] for request in made}) == 700
    assert made[:50] == list(docstrings.summaries(50, model="m"))


def test_a_report_of_files_that_were_put_together_says_so(invoke, done):
    """An id that comes twice is one row; how many do is said, on the page too."""
    _, target = done
    assert "more than once" not in invoke("report", target).stderr
    whole = target.read_bytes()
    page = target.with_name("rows.results.report.html")
    for more, said in [
        (whole.splitlines(keepends=True)[0], "1 custom_id occurs more than once; its last answer counts"),
        (whole, "4 custom_ids occur more than once; the last answer of each counts"),
    ]:
        target.write_bytes(whole + more)
        result = invoke("report", target)
        assert result.exit_code == 0
        assert result.stderr.startswith(f"4 rows in {target}, report in {page}\n{said}")
        assert said in page.read_text()

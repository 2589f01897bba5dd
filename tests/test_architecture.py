"""What holds for the project as a whole: its door, who imports whom, how quickly it starts."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import claude_executor

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "claude_executor"

SDK = {"anthropic", "httpx2", "aiohttp"}
KNOWS_THE_SDK = ("sdk/", "gateway/", "testing/", "runtime/middleware.py", "runtime/stream_tap.py")
STILL = {
    "bulk/costs/token_sample.py",
    "bulk/run/map_journal.py",
    "cli/job/plan.py",
    "cli/service/gateway_server.py",
    "cli/service/rate_limits_api.py",
}
"""Modules that import the SDK at run time and should not."""


def test_the_import_contracts_hold():
    """Who may import whom is written in pyproject.toml, and kept."""
    # Not by its script, which may not be on the path, but by what the script calls.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_only_sdk_imports_anthropics_sdk_at_run_time():
    """Elsewhere the SDK and its HTTP clients are imported for types alone, under `TYPE_CHECKING`."""
    importing = {
        module
        for path in SRC.rglob("*.py")
        if not (module := path.relative_to(SRC).as_posix()).startswith(KNOWS_THE_SDK)
        and SDK.intersection(_imported_at_run_time(ast.parse(path.read_text())))
    }
    assert importing == STILL


def test_an_import_within_a_function_is_one_at_run_time():
    """The test above sees those, and does not see what is imported for types."""
    source = """
if TYPE_CHECKING:
    import a1
    from a2.b import c
else:
    import b1
if typing.TYPE_CHECKING and True:
    import b2
import b3.c
def f():
    from b4 import c
    from . import d
    if TYPE_CHECKING:
        import a3
"""
    assert set(_imported_at_run_time(ast.parse(source))) == {"b1", "b2", "b3", "b4"}


def test_the_public_door_is_as_it_was_reviewed():
    """Public names and signatures equal tests/public_api.txt; a change to it is a change to review."""
    lines = [_signature(name) for name in claude_executor.__all__]
    reviewed = (ROOT / "tests" / "public_api.txt").read_text().splitlines()
    current = "\n".join(lines)
    assert [line for entry in lines for line in entry.splitlines()] == reviewed, (
        f"the public door has changed; if that is meant, put this into tests/public_api.txt:\n{current}"
    )


def test_all_is_sorted_and_complete():
    """`__all__` names what is there, once, in order."""
    names = claude_executor.__all__
    assert names == sorted(set(names))
    assert all(hasattr(claude_executor, name) for name in names)


def test_lazy_names_are_found_where_they_are_said_to_be():
    """The table of homes names every public name, and the module it is defined in for type checkers."""
    source = (ROOT / "src" / "claude_executor" / "__init__.py").read_text()
    homes = claude_executor._HOMES
    assert sorted(homes) == claude_executor.__all__
    for name, home in homes.items():
        block = source.split(f"from claude_executor.{home} import", 1)[1].split("\n    from ", 1)[0]
        assert re.search(rf"\b{name}\b", block), name


def test_importing_the_package_does_not_import_the_sdk():
    """The SDK takes seconds to import: it is imported where it is used."""
    heavy = ("anthropic", "aiohttp", "rich", "starlette")
    code = f"import sys, claude_executor; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _imported_at_run_time(node: ast.AST) -> Iterator[str]:
    """The first names of all modules that are imported below a node, but not for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (name.name.partition(".")[0] for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.level == 0 and child.module is not None:
                yield child.module.partition(".")[0]
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from _imported_at_run_time(ast.Module([other], []))
        else:
            yield from _imported_at_run_time(child)


def _signature(name: str) -> str:
    thing = getattr(claude_executor, name)
    if not inspect.isclass(thing):
        return name
    lines = [f"class {name}({', '.join(base.__name__ for base in thing.__bases__)})"]
    if hasattr(thing, "__members__"):
        return "\n".join([*lines, *(f"    {member}" for member in thing.__members__)])
    if issubclass(thing, dict):
        return "\n".join([*lines, *(f"    {key}" for key in thing.__annotations__)])
    if issubclass(thing, BaseException) or "__dataclass_fields__" in vars(thing) or name == "Executor":
        lines[0] += f" {inspect.signature(thing.__init__)}"
    elif issubclass(thing, tuple):
        lines[0] += f" {inspect.signature(thing)}"
    for member, value in vars(thing).items():
        if member.startswith("_") and member not in {"__aenter__", "__aexit__"}:
            continue
        if isinstance(value, property):
            lines.append(f"    {member}: property")
        elif callable(value) or isinstance(value, (staticmethod, classmethod)):
            lines.append(f"    {member}{inspect.signature(getattr(thing, member))}")
    # Bare names: where something is defined is no part of the door.
    return re.sub(r" at 0x[0-9a-f]+|\b(?:[a-z_]+\.)+(?=[A-Z])", "", "\n".join(lines))

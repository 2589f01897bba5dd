"""What holds for the project as a whole: its door, who imports whom, how quickly it starts."""

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import claude_executor

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "claude_executor"

SDK = {"anthropic", "httpx2", "aiohttp"}
KNOWS_THE_SDK = ("sdk/", "gateway/", "testing/", "runtime/middleware.py", "runtime/stream_tap.py")


def test_the_import_contracts_hold():
    """Who may import whom is written in pyproject.toml, and kept."""
    # Not by its script, which may not be on the path, but by what the script calls.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_no_modules_import_each_other_in_a_circle():
    """Typing imports count: whoever opens a module should not have to open its user, too."""
    graph = grimp.build_graph("claude_executor", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    while free := {module for module, needs in imports.items() if not needs & imports.keys()}:
        imports = {module: needs for module, needs in imports.items() if module not in free}
    assert imports == {}


def test_only_sdk_imports_anthropics_sdk_at_run_time():
    """Elsewhere the SDK and its HTTP clients are imported for types alone, under `TYPE_CHECKING`."""
    importing = {
        module
        for path in SRC.rglob("*.py")
        if not (module := path.relative_to(SRC).as_posix()).startswith(KNOWS_THE_SDK)
        and SDK.intersection(_imported_at_run_time(ast.parse(path.read_text())))
    }
    assert importing == set()


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


MODULES = sorted((ROOT / "src").rglob("*.py"))


def test_no_folder_holds_more_than_twelve_modules():
    """A folder that grows beyond that has rooms that should be named."""
    folders = Counter(path.parent for path in MODULES if not path.stem.startswith("__"))
    assert {str(folder): count for folder, count in folders.items() if count > 12} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_no_module_is_longer_than_350_lines(path):
    """A module that grows beyond that usually holds two things."""
    assert len(path.read_text().splitlines()) <= 350


def test_no_class_name_stands_for_two_things():
    """Each class name, private ones included, is defined once in the package."""
    same_thing = {"Executor"}  # claude_executor.sync.Executor is the same executor, for code without async
    defined = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in defined.items() if count > 1} - same_thing == set()


OLD_NAMES = re.compile(
    r"\b(?:Purse|Meter|Overheard|Carrier|Anew|Foresight|Album|Witness|Handed|Outlet|GoingOn|Urgency|Tally|"
    r"Pricing|Ceiling|Emitter|Stops|Prefixes|Pace|Growth|Window|Usages|Flight|News|Share|Alone|Standing|"
    r"Grant|Advice|Quote|Terms|Kind|Treatment|Verdicts|Circumstances|Turn|Counting|Broken|Trouble|Watch|"
    r"Lately|SimulatedApi|Counted|Copies|Known|Spare|Mark|by_pool|broken_by|advice_of|passed_on|"
    r"leave_to_the_whole|flaw_of_key|looked_at|going_on|undrawn|anew|farewell|told_cut|purse|overheard|"
    r"carrier|anew)\b"
)


def test_no_old_name_is_defined_or_imported():
    """The private words of the first layout (purse, news, overheard, anew, carrier …) are gone for good."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = {
                ast.ClassDef: lambda n: [n.name],
                ast.FunctionDef: lambda n: [n.name],
                ast.AsyncFunctionDef: lambda n: [n.name],
                ast.Attribute: lambda n: [n.attr],
                ast.Name: lambda n: [n.id],
                ast.arg: lambda n: [n.arg],
            }.get(type(node), lambda _: [])(node)
            found += [f"{path.name}: {name}" for name in names if OLD_NAMES.fullmatch(name)]
    assert sorted(set(found)) == []


WEAK = re.compile(
    r"(?:It|They|That|This|These|Those|What|Who|Whoever|Whose|Which|Others?|The same|The rest|Without|"
    r"As|And|Or|"
    r"Nor|But|So|For|Of|To|In|On|At|By|From|With|If|Where|When|While|Until|After|Before|How|Why|Nothing|"
    r"Nobody|Everybody|Everything|Something|Somebody|All that|Such|There|Here|Only|Not|No more|Be|Whether "
    r"(?:it|they|that|this|there|what|who|one))\b"
)


def _documented(path):
    """Yield the docstrings that must name their subject: all of core/, and those of public names."""
    tree = ast.parse(path.read_text())
    in_core = "core" in path.parts
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = getattr(node, "name", path.stem)
            text = ast.get_docstring(node)
            if text and (in_core or name == "__init__" or not name.startswith("_")):
                yield f"{path.name}:{getattr(node, 'lineno', 1)} {name}", text


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_docstrings_name_their_subject(path):
    """No docstring of a public name or of the core begins with a pronoun or a bare clause."""
    assert [f"{where}: {text.splitlines()[0]}" for where, text in _documented(path) if WEAK.match(text)] == []


def _used(path):
    """Yield the names that a program uses: names, attributes, keywords, and what it defines itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case (
                ast.Name(id=name)
                | ast.Attribute(attr=name)
                | ast.alias(name=name)
                | ast.keyword(arg=str(name))
            ):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name  # an implementation of a protocol


def test_every_public_name_is_used_by_a_test_or_an_example():
    """A name or a member at the door that nobody uses need not be public."""
    folders = (ROOT / "tests", ROOT / "examples")
    paths = {path for folder in folders for path in folder.rglob("*.py") if "node_modules" not in path.parts}
    used = {name for path in paths if "architecture" not in path.name for name in _used(path)}
    names = set(claude_executor.__all__)
    for line in (ROOT / "tests" / "public_api.txt").read_text().splitlines():
        if member := re.match(r"    ([a-zA-Z]\w*)", line):
            names.add(member.group(1))
    assert names - used == set()


def test_signatures_are_printed_without_private_modules():
    """Moving a file does not change the public door."""
    assert "claude_executor." not in (ROOT / "tests" / "public_api.txt").read_text()

"""What ARCHITECTURE.md names exists: every path, and every name that stands beside a path."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "claude_executor"
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
TREE, PROSE = PAGE.split("```")[1], "".join(PAGE.split("```")[::2])

NAMED = sorted(set(re.findall(r"`([\w./-]+\.(?:py|lua|toml)|[\w./-]+/)(?:: ([\w.]+))?`", PROSE)))
"""Pairs of a path, and the name in it or nothing."""


def _found(path: str) -> Path:
    return next((base / path for base in (SRC, ROOT) if (base / path).exists()), SRC / path)


def _defined(nodes: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Return what a module or a class defines, by name."""
    names: dict[str, ast.stmt] = {}
    for node in nodes:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names[node.name] = node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names.update({target.id: node for target in targets if isinstance(target, ast.Name)})
    return names


def _classes() -> dict[str, ast.ClassDef]:
    return {
        name: node
        for path in SRC.rglob("*.py")
        for name, node in _defined(ast.parse(path.read_text()).body).items()
        if isinstance(node, ast.ClassDef)
    }


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_page_names_exists(path, name):
    """The path is there, and the name is defined in it: a function, a class, a method or a constant."""
    assert _found(path).exists()
    scope = ast.parse(_found(path).read_text()).body if name else []
    for part in filter(None, name.split(".")):
        assert part in _defined(scope), f"{path} has no {name}"
        scope = getattr(_defined(scope)[part], "body", [])


def test_methods_named_without_their_path_exist():
    """Once a class has been introduced, the page may name its methods alone."""
    classes = _classes()
    for owner, method in re.findall(r"`([A-Z]\w+)\.(\w+)`", PROSE):
        assert owner in classes, owner
        assert method in _defined(classes[owner].body), f"{owner}.{method}"


def test_the_tree_shows_every_folder():
    """Each folder of the package has a line of its own in the tree, at its place."""
    shown: set[str] = set()
    parents: list[str] = []
    for line in TREE.splitlines()[2:]:
        found = re.match(r"((?:│   |    )*)[├└]── ([\w]+)/", line)
        if found:
            parents[len(found[1]) // 4 :] = [found[2]]
            shown.add("/".join(parents))
    folders = {path.parent.relative_to(SRC).as_posix() for path in SRC.rglob("__init__.py")} - {"."}
    assert shown == folders


def test_the_tree_shows_only_files_that_exist():
    """Each file that a line of the tree begins with is where the line stands."""
    parents: list[str] = []
    for line in TREE.splitlines()[2:]:
        found = re.match(r"((?:│   |    )*)[├└]── (.*)", line)
        if found is None:
            continue
        depth, rest = len(found[1]) // 4, found[2]
        if (folder := re.match(r"(\w+)/", rest)) is not None:
            parents[depth:] = [folder[1]]
            continue
        for file in re.findall(r"\w+\.py", re.match(r"(?:\w+\.py\s*)*", rest)[0]):
            assert (SRC / "/".join([*parents[:depth], file])).exists(), line

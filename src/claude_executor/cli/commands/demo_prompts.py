"""Real prompts found on every machine: the docstrings of Python's standard library."""

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def docstrings() -> Iterator[str]:
    """Yield thousands of docstrings of modules, classes and functions, in a fixed order.

    Their lengths are realistic: most are short, a few are very long.
    """
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield text


def summaries(count: int, *, model: str, max_tokens: int = 256) -> Iterator[dict[str, object]]:
    """Yield `count` requests to summarize docstrings, starting over if there are too few."""
    made = 0
    while made < count:
        for text in docstrings():
            if made == count:
                return
            made += 1
            yield {
                "model": model,
                "max_tokens": max_tokens,
                "messages": [{"role": "user", "content": f"Summarise this documentation:\n\n{text}"}],
                "metadata": {"user_id": f"docstring-{made}"},
            }

"""Real prompts that every machine has: the docstrings of Python's standard library."""

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def docstrings() -> Iterator[str]:
    """Yield the docstrings of the standard library, several thousand, in a fixed order.

    Their lengths are those of real text: most are short, a few are very long.
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
    """Yield `count` requests for summaries of docstrings, starting over when all have been used."""
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

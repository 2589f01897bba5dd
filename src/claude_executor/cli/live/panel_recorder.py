"""Pictures of the panel, as SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from claude_executor.cli.live.progress import ProgressTracker, View

if TYPE_CHECKING:
    from pathlib import Path

    from claude_executor import Executor
    from claude_executor.bulk import Run


class PanelRecorder(ProgressTracker):
    """A progress tracker that keeps one view, for a picture."""

    def __init__(
        self, run: Run, executor: Executor, *, title: str, max_concurrency: int, between: tuple[float, float]
    ) -> None:
        """Keep the last view in which a limit binds while the fraction done is in `between`, or the first."""
        super().__init__(run, executor, title=title, max_concurrency=max_concurrency)
        self._from, self._until = between
        self.kept: View | None = None

    def look(self) -> View:
        """Take a view of the run, and keep it if it is better than the kept one."""
        view = super().look()
        worth = self._from <= view.share <= self._until and any(bar.binds for bar in view.bars)
        if self.kept is None or worth:
            self.kept = view
        return view

    def save(self, path: Path, *, width: int) -> None:
        """Draw the kept view.

        Raises:
            OSError: The file cannot be written.
        """
        path.write_text(draw(self.kept or self.look(), width=width), encoding="utf-8")


def draw(view: View, *, width: int) -> str:
    """Draw the panel as SVG."""
    from rich.console import Console

    from claude_executor.cli.live.panel import LivePanel

    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(LivePanel(view))
    return console.export_svg(title="claude-executor demo")

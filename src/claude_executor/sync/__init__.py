"""The executor for code without async: `claude_executor.Executor` on an event loop in its own thread."""

from claude_executor.sync.executor import Executor, ExecutorOptions, Stream, map_sync, submit_sync

__all__ = ["Executor", "ExecutorOptions", "Stream", "map_sync", "submit_sync"]

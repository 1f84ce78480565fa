"""Step k of n: counts a workflow's tools as cwltool makes them, and tells when each is first run.

Imports cwltool, so it is imported late.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cwltool.command_line_tool import CommandLineTool, ExpressionTool
from cwltool.process import shortname
from cwltool.workflow import default_make_tool


class Steps:
    """The steps of one run. Tools of nested workflows count; a scattered tool counts once.

    Args:
        tell: called with k, n and the step's name when a step begins.
    """

    def __init__(self, tell: Callable[[int, int, str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._total = 0
        self._begun: set[int] = set()
        self._name = ""

    def make_tool(self, toolpath_object: Any, loading_context: Any) -> Any:
        """What cwltool calls for every process of the document: LoadingContext.construct_tool_object."""
        kind = toolpath_object.get("class") if isinstance(toolpath_object, dict) else None
        if kind not in _WATCHED:
            return default_make_tool(toolpath_object, loading_context)
        tool = _WATCHED[kind](toolpath_object, loading_context)
        tool.steps = self
        self._total += 1
        return tool

    def begins(self, tool: Any, part_of: str) -> None:
        """A tool is about to run, for the first time or again."""
        with self._lock:
            if id(tool) in self._begun:
                return
            self._begun.add(id(tool))
            self._name = part_of.removeprefix("step ") if part_of else shortname(tool.tool["id"])
            self._tell(len(self._begun), self._total, self._name)

    def all_done(self) -> None:
        """The run succeeded: steps that did not begin were skipped by their ``when``."""
        if self._begun and len(self._begun) < self._total:
            self._tell(self._total, self._total, self._name)


class _WatchedCommandLineTool(CommandLineTool):  # type: ignore[misc]
    steps: Steps

    def job(self, job_order: Any, output_callbacks: Any, runtimeContext: Any) -> Any:
        self.steps.begins(self, runtimeContext.part_of)
        return super().job(job_order, output_callbacks, runtimeContext)


class _WatchedExpressionTool(ExpressionTool):  # type: ignore[misc]
    steps: Steps

    def job(self, job_order: Any, output_callbacks: Any, runtimeContext: Any) -> Any:
        self.steps.begins(self, runtimeContext.part_of)
        return super().job(job_order, output_callbacks, runtimeContext)


_WATCHED: dict[Any, Any] = {
    "CommandLineTool": _WatchedCommandLineTool,
    "ExpressionTool": _WatchedExpressionTool,
}

"""Step k of n: counts a workflow's tools as cwltool loads them, and reports when each is first run.

It imports cwltool, so it is imported late.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cwltool.command_line_tool import CommandLineTool, ExpressionTool
from cwltool.process import shortname
from cwltool.workflow import default_make_tool


class StepCounter:
    """Counts the steps of one run: tools of nested workflows count, and a scattered tool counts once.

    Args:
        report: called with k, n and the step's name when a step begins.
    """

    def __init__(self, report: Callable[[int, int, str], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._depth = 0
        self._total = 0
        self._begun: set[int] = set()
        self._name = ""

    def make_tool(self, toolpath_object: Any, loading_context: Any) -> Any:
        """Make the tool of one process: this is cwltool's ``LoadingContext.construct_tool_object``.

        A workflow's constructor makes its steps' tools. A document is made twice if a part of it is chosen
        (``--target``, ``--single-step``): the last one runs.
        """
        if self._depth == 0:
            self._total, self._begun = 0, set()
        self._depth += 1
        try:
            return self._make_tool(toolpath_object, loading_context)
        finally:
            self._depth -= 1

    def _make_tool(self, toolpath_object: Any, loading_context: Any) -> Any:
        kind = toolpath_object.get("class") if isinstance(toolpath_object, dict) else None
        if kind not in _COUNTED:
            return default_make_tool(toolpath_object, loading_context)
        tool = _COUNTED[kind](toolpath_object, loading_context)
        tool.counter = self
        self._total += 1
        return tool

    def tool_runs(self, tool: Any, part_of: str) -> None:
        """A tool is about to run, for the first time or again.

        Args:
            tool: made by ``make_tool``.
            part_of: cwltool's name of the step; empty if the document is a single tool.
        """
        with self._lock:
            if id(tool) in self._begun:
                return
            self._begun.add(id(tool))
            self._name = part_of.removeprefix("step ") if part_of else shortname(tool.tool["id"])
            self._report(len(self._begun), self._total, self._name)

    def run_succeeded(self) -> None:
        """The run has succeeded: steps that have not begun were skipped by ``when``, and count as done."""
        if self._begun and len(self._begun) < self._total:
            self._report(self._total, self._total, self._name)


class _CountedCommandLineTool(CommandLineTool):  # type: ignore[misc]
    counter: StepCounter

    def job(self, job_order: Any, output_callbacks: Any, runtimeContext: Any) -> Any:
        self.counter.tool_runs(self, runtimeContext.part_of)
        return super().job(job_order, output_callbacks, runtimeContext)


class _CountedExpressionTool(ExpressionTool):  # type: ignore[misc]
    counter: StepCounter

    def job(self, job_order: Any, output_callbacks: Any, runtimeContext: Any) -> Any:
        self.counter.tool_runs(self, runtimeContext.part_of)
        return super().job(job_order, output_callbacks, runtimeContext)


_COUNTED: dict[Any, Any] = {
    "CommandLineTool": _CountedCommandLineTool,
    "ExpressionTool": _CountedExpressionTool,
}

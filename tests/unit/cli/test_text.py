"""Foreign output beside what was told of it."""

from __future__ import annotations

import pytest

from lando.cli.text import last_untold_lines

LOG = """INFO [job b] /tmp/x$ sh
trouble with lane 7
{error}
WARNING [job b] completed permanentFail"""
OTHERS = ["INFO [job b] /tmp/x$ sh", "trouble with lane 7", "WARNING [job b] completed permanentFail"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "WARNING [job b] exited with status: 33",
            "cwltool exited with status 1: [job b] exited with status: 33",
        ),
        ("[2026-01-01 10:00:00] ERROR No.", "cwltool exited with status 1: No."),
        (
            "ERROR Workflow error, try again with --debug for more information:\n    a.cwl:1:  not\n   b",
            "cwltool exited with status 1: Workflow error: a.cwl:1:  not b; another",
        ),
        ("the cluster is on fire", "toil exited with status 9: the cluster is on fire"),
        ("a [b] (c) *", "first; a [b] (c) *; last"),
    ],
)
def test_what_is_told_is_left_out(error: str, told: str) -> None:
    assert last_untold_lines(LOG.format(error=error), told) == OTHERS


@pytest.mark.parametrize(
    "error", ["status", "exited with status: 3", "job", "WARNING [job b] exited", "no", ""]
)
def test_what_is_only_a_part_of_a_word_or_more_is_shown(error: str) -> None:
    told = "exited with status: 33, nothing; WARNING-like [job b2] of jobs; exited"
    assert error in last_untold_lines(LOG.format(error=error), told)


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_an_empty_log_has_no_last_line(text: str) -> None:
    assert last_untold_lines(text, "canceled") == []

"""The name of a repository: git's rule."""

from __future__ import annotations

import pytest

from lando.repository import clone_name


@pytest.mark.parametrize(
    "address, name",
    [
        ("https://example.org/toyworkflow.git", "toyworkflow"),
        ("https://example.org/group/toyworkflow/", "toyworkflow"),
        ("https://example.org/toyworkflow.git/", "toyworkflow"),
        ("/srv/toyworkflow/.git", "toyworkflow"),
        ("git@example.org:toyworkflow.git", "toyworkflow"),
        ("git@example.org:group/toyworkflow", "toyworkflow"),
        ("/srv/git/toyworkflow", "toyworkflow"),
        ("/srv/git/toy.workflow", "toy.workflow"),
    ],
)
def test_clone_name(address: str, name: str) -> None:
    assert clone_name(address) == name

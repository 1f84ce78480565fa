from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.openstack.cloud import LabCloud
from tests.openstack.lab import namespace

# These tests can only run where the lab is: python -m tests.openstack.lab exec -- pytest tests/openstack
collect_ignore_glob = [] if namespace.is_here() else ["test_*.py"]


@pytest.fixture
def lab() -> Iterator[LabCloud]:
    """The lab, as it is when it has come up, before the test and after it."""
    here = LabCloud()
    here.clear()
    yield here
    here.clear()

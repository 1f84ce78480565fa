from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.openstack.cloud import LabCloud
from tests.openstack.lab import life, namespace


def elsewhere() -> list[str]:
    """The files of tests that cannot run here.

    They need the lab (python -m tests.openstack.lab exec -- pytest tests/openstack), and VMs or processes.
    """
    if not namespace.is_here():
        return ["test_*.py"]
    return ["test_jobs.py", "test_lab.py"] if life.driver().guests else ["test_vm.py"]


collect_ignore_glob = elsewhere()


@pytest.fixture
def lab() -> Iterator[LabCloud]:
    """The lab, as it is when it has come up, before the test and after it."""
    here = LabCloud()
    here.clear()
    yield here
    here.clear()

"""Whole jobs on a real OpenStack: the scenarios of ``tests/integration/test_openstack_system.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.openstack.cloud import LabCloud
from tests.support.openstack_scenarios import SCENARIOS
from tests.support.openstack_site import Stage
from tests.support.rabbitmq_server import VirtualHost

SLOWNESS = 5.0
"""A server takes some seconds of processor time in Nova and Neutron."""


@pytest.fixture
def stage(
    tmp_path: Path,
    lab: LabCloud,
    least_privilege: VirtualHost,
    record_property: Callable[[str, object], None],
) -> Iterator[Stage]:
    here = Stage(tmp_path, least_privilege, lab, lambda line: record_property("seen", line), SLOWNESS)
    yield here
    here.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_on_a_real_cloud(stage: Stage, scenario: Callable[[Stage], None]) -> None:
    scenario(stage)

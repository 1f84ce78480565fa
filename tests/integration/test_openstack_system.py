"""The system on OpenStack, with RabbitMQ, daemons and workers that are real, and a cloud that is the fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from tests.support.openstack_project import FakeFacility
from tests.support.openstack_scenarios import SCENARIOS
from tests.support.openstack_site import Stage
from tests.support.rabbitmq_server import VirtualHost


@pytest.fixture
def stage(
    tmp_path: Path, least_privilege: VirtualHost, record_property: Callable[[str, object], None]
) -> Iterator[Stage]:
    facility = FakeFacility(tmp_path / "machines")
    here = Stage(tmp_path, least_privilege, facility, lambda line: record_property("seen", line))
    yield here
    here.close()
    facility.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_on_the_fake(stage: Stage, scenario: Callable[[Stage], None]) -> None:
    scenario(stage)

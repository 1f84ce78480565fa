"""The lab does what the other tests here rely on."""

from __future__ import annotations

import base64
import time

import pika
import pytest
from keystoneauth1.exceptions import ConnectFailure, Forbidden, NotFound, Unauthorized
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from tests.openstack.cloud import LabCloud, until
from tests.support import rabbitmq_server as broker


def user_data(script: str) -> str:
    return base64.b64encode(f"#!/bin/bash\n{script}\n".encode()).decode()


def console(lab: LabCloud, server_id: str) -> str:
    action = {"os-getConsoleOutput": {}}
    output: str = lab.lando("POST", "compute", f"/servers/{server_id}/action", json=action)["output"]
    return output


def is_gone(lab: LabCloud, server_id: str) -> bool:
    try:
        lab.server(server_id)
    except NotFound:
        return True
    return False


def test_a_server_runs_its_user_data_until_it_is_deleted(lab: LabCloud) -> None:
    script = 'echo "$(id -un) at $(hostname)"; (setsid sleep 4711 &); sleep 1; echo over'
    server = lab.create_server("runs", user_data(script))
    until(lambda: lab.server(server)["status"] == "ACTIVE" and "over" in console(lab, server))
    assert "root at runs" in console(lab, server)
    with pytest.raises(AssertionError, match="server runs"):
        lab.assert_clean()
    lab.assert_clean(server)
    lab.delete_server(server)
    until(lambda: is_gone(lab, server))
    lab.assert_clean()


def test_knobs_turn_builds_into_errors_and_servers_off(lab: LabCloud) -> None:
    with lab.knobs(spawn_fail_every=1):
        failed = lab.create_server("fails")
        until(lambda: lab.server(failed)["status"] == "ERROR")
    with lab.knobs(die_after_s=1):
        dead = lab.create_server("dies", user_data("sleep 1000"))
        until(lambda: lab.server(dead)["status"] == "SHUTOFF")


def test_a_build_that_hangs_can_be_deleted(lab: LabCloud) -> None:
    with lab.knobs(spawn_hang_every=1):
        server = lab.create_server("hangs")
        until(lambda: lab.server(server)["OS-EXT-STS:task_state"] == "spawning")
        time.sleep(2)
        assert lab.server(server)["status"] == "BUILD"
        lab.delete_server(server)
        until(lambda: is_gone(lab, server))


def test_a_quota_is_enforced_meanwhile(lab: LabCloud) -> None:
    with lab.quota(instances=0), pytest.raises(Forbidden):
        lab.create_server("one-too-many")
    assert lab.create_server("within-quota")


def test_revoked_tokens_are_void_at_once_and_new_ones_valid(lab: LabCloud) -> None:
    session = Session(timeout=60)
    token = lab.lando.session.get_token()
    nova = lab.lando.session.get_endpoint(service_type="compute")
    headers = {"X-Auth-Token": token}
    assert session.get(f"{nova}/servers", headers=headers, authenticated=False).ok
    lab.revoke_tokens()
    with pytest.raises(Unauthorized):
        session.get(f"{nova}/servers", headers=headers, authenticated=False)
    server = lab.create_server("after-revocation")
    until(lambda: lab.server(server)["status"] == "ACTIVE")


def test_a_stopped_service_refuses_connections_and_comes_back(lab: LabCloud) -> None:
    with lab.stopped("nova-api"), pytest.raises(ConnectFailure):
        lab.servers()
    assert lab.servers() == []
    with lab.stopped("keystone"), pytest.raises(ConnectFailure):
        Session(auth=v3.Password(**lab.cloud_settings), timeout=60).get_token()
    assert lab.servers() == []


def test_the_labs_broker_has_an_administrator(lab: LabCloud) -> None:
    here = broker.at_url(lab.amqp_url)
    with here.connect(here.admin) as connection:
        channel = connection.channel()
        channel.queue_declare(here.queue_name, exclusive=True)
        properties = pika.BasicProperties(user_id="somebody-else")
        channel.confirm_delivery()
        channel.basic_publish("", here.queue_name, b"in anybody's name", properties)
        assert channel.basic_get(here.queue_name, auto_ack=True)[2] == b"in anybody's name"

"""The local cloud without starting a VM: errors of the operating system, and unusual directories."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from lando.cloud.interface import CloudError, NoCapacity, QuotaExceeded, Refused, ServerRequest, Unreachable
from lando.cloud.local.driver import LocalCloud
from tests.support.another_account import as_another_account, place_of_another_account

REQUEST = ServerRequest(
    name="vm", mark="a-mark", deployment="d", job_id="j", attempt=1, user_data=b"#!/bin/sh\n"
)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoCapacity),
        (errno.EDQUOT, NoCapacity),
        (errno.EROFS, Refused),
        (errno.EACCES, Refused),
        (errno.EIO, Unreachable),
    ],
)
@pytest.mark.parametrize("step", ["write", "rename", "fork"])
def test_a_failed_create_is_definite_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CloudError], step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "a-file")

    cloud = LocalCloud(tmp_path / "cloud")
    with monkeypatch.context() as broken:
        if step == "write":
            broken.setattr("json.dumps", fail)
        elif step == "rename":
            broken.setattr(Path, "rename", fail)
        else:
            broken.setattr(subprocess, "Popen", fail)
        with pytest.raises(kind) as caught:
            cloud.create(REQUEST)
    assert str(tmp_path / "cloud") in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert not isinstance(caught.value, QuotaExceeded)
    if isinstance(caught.value, Refused):
        assert caught.value.origin == "site"
    assert cloud.servers() == []
    assert list((tmp_path / "cloud" / "limbo").iterdir()) == []


def test_nothing_exists_before_the_first_create(tmp_path: Path) -> None:
    cloud = LocalCloud(tmp_path / "cloud")
    assert cloud.servers() == []
    assert cloud.get("absent") is None
    assert cloud.console_log("absent") == ""
    assert cloud.quota().servers.left is None
    assert cloud.delete("absent")
    assert not (tmp_path / "cloud").exists()


@pytest.mark.parametrize("mark", ["..", ".", "", "a/b", "../vms", "a\0b", "a\nb", "x" * 200])
def test_an_invalid_mark_names_no_directory(tmp_path: Path, mark: str) -> None:
    cloud = LocalCloud(tmp_path / "cloud")
    (tmp_path / "cloud" / "vms").mkdir(parents=True)
    cloud.delete(mark)
    assert cloud.get(mark) is None
    assert [path.name for path in (tmp_path / "cloud").iterdir()] == ["vms"]


def test_a_vm_whose_request_cannot_be_read_is_listed(tmp_path: Path) -> None:
    (tmp_path / "vms" / "half").mkdir(parents=True)
    (tmp_path / "vms" / "half" / "server.json").write_text("{")
    (tmp_path / "vms" / "stray-file").touch()
    cloud = LocalCloud(tmp_path)
    (server,) = cloud.servers()
    assert (server.id, server.mark, server.deployment, server.status) == ("half", "half", None, "ERROR")
    cloud.delete("half")
    assert cloud.servers() == []


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_vm_that_closed_its_directory_hides_no_other_and_is_deleted(mode: int) -> None:
    with place_of_another_account() as root:

        def close_and_delete() -> None:
            for mark in ("closed", "other"):
                (root / "vms" / mark).mkdir(parents=True)
                for file in ("lock", "server.json", "record.json"):
                    (root / "vms" / mark / file).write_text("{}")
            for file in (root / "vms" / "closed").iterdir():
                file.chmod(mode & 0o400)
            (root / "vms" / "closed").chmod(mode)
            cloud = LocalCloud(root)
            assert [server.mark for server in cloud.servers()] == ["closed", "other"]
            (root / "vms" / "closed").chmod(0o500)
            assert cloud.delete("closed")
            assert os.listdir(root / "vms") == ["other"]
            assert os.listdir(root / "limbo") == []

        assert as_another_account(close_and_delete) == ""

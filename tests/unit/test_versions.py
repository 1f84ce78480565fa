from __future__ import annotations

import pytest

from lando import versions
from lando.versions import UNREPORTED, hint, is_older, needed, refusal


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("0.1.0", "0.2.0", True),
        ("0.2", "0.2.0", False),
        ("0.2.0", "0.2", False),
        ("0.9.0", "0.10.0", True),
        ("0.3.0.dev1+g12", "0.3.0", False),
        ("1.0", "0.9.9", False),
        (UNREPORTED, "0.1.0", True),
        ("", "0.1.0", False),
        ("1" * 5000, "0.1.0", False),
        ("a version", "0.1.0", False),
    ],
)
def test_which_version_is_older(version: str, than: str, older: bool) -> None:
    assert is_older(version, than) is older


def test_a_hint_for_older_ones_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "VERSION", "0.3.0")
    monkeypatch.setattr(versions.is_older, "__defaults__", ("0.3.0",))
    assert hint("0.2") == "older than this daemon (0.3.0): rebuild the image, see docs/upgrade.md"
    assert (hint("0.3"), hint("0.4")) == ("", "")


def test_what_a_worker_must_know() -> None:
    configuration = {
        "job": "j",
        "attempt": 1,
        "token": "t",
        "queue": {"kind": "embedded"},
        "heartbeat": 1.0,
        "user": None,
        "git": {"ref": "v1", "user": None, "password": ""},
        "cwl_base_command": None,
        "cwl_args": (),
        "archive": "https://example.org/a.zip",
        "optional": {"run_timeout": 60.0},
    }
    assert needed(configuration) == {"git_ref", "archive"}


def test_a_refusal_names_version_and_settings() -> None:
    assert refusal("0.2.0", ["archive"]) == (
        "the worker in the VM (lando-fsm 0.2.0) does not know the setting archive: "
        "rebuild the image with the daemon's version (docs/upgrade.md)"
    )
    assert "(an older lando-fsm) does not know the settings archive, storage:" in refusal(
        UNREPORTED, ["storage", "archive"]
    )


def test_a_refusal_for_want_of_protection_names_the_way_to_accept_that() -> None:
    assert "worker.protect: false" in refusal("0.2.0", ["protect"])
    assert "worker.protect" not in refusal("0.2.0", ["archive"])

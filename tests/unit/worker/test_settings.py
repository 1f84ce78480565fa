import json

import pytest

from lando_worker.settings import ABILITIES, SettingsError, load

LEAST = {"job": "j", "attempt": 1, "token": "t", "queue": {"kind": "embedded"}, "heartbeat": 5}


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "not a worker"), ("{}", "'job' is missing"), ("[]", "not a worker")]
)
def test_a_bad_worker_configuration_is_named(tmp_path, text, reason):
    path = tmp_path / "worker.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=f"{path}.*{reason}"):
        load(path)


def loaded(tmp_path, **more):
    path = tmp_path / "worker.json"
    path.write_text(json.dumps({**LEAST, **more}))
    return load(path)


def test_abilities_are_the_optional_settings():
    assert {"git_ref", "cwl_args", "outputs", "user"} <= set(ABILITIES)
    assert not {"job", "token", "unknown"} & set(ABILITIES)


def test_settings_of_a_newer_daemon_are_named_if_they_are_set(tmp_path):
    newer = {"archive": "https://example.org/a.zip", "storage": None, "scratch": "", "git": {"depth": 1}}
    assert loaded(tmp_path, **newer).unknown == ("archive", "git_depth")
    assert loaded(tmp_path, git={"ref": "v1"}, cwl_args=["--debug"]).unknown == ()


def test_what_stands_under_optional_may_be_unknown(tmp_path):
    settings = loaded(tmp_path, optional={"telemetry": "on", "user": "ana"})
    assert (settings.unknown, settings.user) == ((), "ana")

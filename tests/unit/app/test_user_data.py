import base64
import json
import re
import subprocess

import pytest
from ruamel.yaml import YAML

from lando.app.server_request import ServerRequests
from lando.app.user_data import WorkerSettings, installed_command, render, unprotected, worker_configuration
from lando.cloud.interface import MAX_USER_DATA
from lando.config.site_config import WorkerConfig, load
from lando.engine.operations import SendCreate
from lando.errors import UsageError
from lando.states.job import Job, JobSpec
from lando.versions import UNREPORTED_ABILITIES, needed
from lando.yaml_json import yaml_safe_json
from lando_worker.settings import ABILITIES

SETTINGS = WorkerSettings(
    WorkerConfig("/lando/lando_worker.sh", user=None), {"kind": "embedded", "database": "/x/lando.db"}
)


def script_of(**changes):
    spec = {"git_clone": "/r", "cd": ".", "input": {}, "run_cwl": "w.cwl"} | changes
    return render(
        JobSpec(**spec), job_id="j", attempt=2, token="tok-secret", server_name="s", settings=SETTINGS
    )


def assigned(script, name):
    """The value that bash gives to a variable of the script's head."""
    head = script.split(b"\nset -", 1)[0]
    return subprocess.run(
        ["bash", "-c", head + f'\nprintf %s "${name}"'.encode()], capture_output=True, check=True
    ).stdout.decode()


@pytest.mark.parametrize(
    "value", ["it's", 'a"b', "$(touch x) `y`", "two\nlines", "EOF", "🧬 ü", "-n", "a\\b!"]
)
def test_arguments_mean_themselves(value):
    assert assigned(script_of(cd=value), "cd") == value


def test_the_script_is_ascii_and_runs_bash():
    script = script_of(cd="ü", input={"x": "🧬"})
    assert script.isascii()
    assert script.startswith(b"#!/bin/bash\n")


def test_credentials_are_in_the_configuration_only():
    script = script_of(git_clone="https://u:hunter22@h/x.git")
    config = json.loads(base64.b64decode(assigned(script, "config")))
    assert config["git"] == {"ref": None, "user": "u", "password": "hunter22"}
    assert assigned(script, "git") == "https://h/x.git"
    assert b"hunter22" not in script
    assert b"tok-secret" not in script


def test_too_large_an_input_is_refused_with_its_size():
    with pytest.raises(UsageError, match=r"input: 1,000,0\d\d bytes .* 65,535") as error:
        script_of(input={"x": "y" * 1_000_000})
    assert error.value.exit_code == 2


def test_the_limit_is_of_base64():
    """As large as possible is still accepted, a little more is not."""
    size = 0
    for step in (16384, 1024, 64, 4, 1):
        while True:
            try:
                script = script_of(input={"x": "y" * (size + step)})
            except UsageError:
                break
            size += step
            assert len(base64.b64encode(script)) <= MAX_USER_DATA
    assert len(base64.b64encode(script_of(input={"x": "y" * size}))) > MAX_USER_DATA - 16


@pytest.mark.parametrize(
    "value", ["🧬", "a\u2028b", "\x85\x7f\ufeff", "yes", "0o17", 1e20, "\t\\u0041", None]
)
def test_parameters_mean_the_same_in_json_and_yaml(value):
    text = yaml_safe_json({"x": value})
    assert json.loads(text) == {"x": value}
    assert YAML(typ="safe").load(text) == {"x": value}


def test_installed_command_is_there():
    assert re.search(r"lando_worker/lando_worker\.sh$", installed_command())
    subprocess.run(["bash", "-n", installed_command()], check=True)


def test_a_worker_of_this_version_knows_all_that_this_daemon_writes():
    spec = JobSpec(
        "https://u:p@h/x.git", ".", {}, "w.cwl", git_ref="v1", run_timeout=60.0, cwl_args=("--debug",)
    )
    worker = WorkerConfig("/w", user="lando", cwl_base_command=("toil",))
    needs = needed(worker_configuration(spec, WorkerSettings(worker, {"kind": "embedded"}, outputs="/o")))
    assert needs <= set(ABILITIES)
    # A new setting that an older image may ignore stands under ``optional``; one that it may not is added
    # here on purpose: jobs that have it are refused by images of before versions were reported.
    assert needs == UNREPORTED_ABILITIES | {"protect"}


@pytest.mark.parametrize("user, protect", [("root", True), (None, True), ("lando", False)])
def test_where_nothing_is_protected_older_workers_will_do(user, protect):
    worker = WorkerConfig("/w", user=user, protect=protect)
    configuration = worker_configuration(
        JobSpec("/r", ".", {}, "w.cwl"), WorkerSettings(worker, {"kind": "x"})
    )
    assert "protect" not in needed(configuration)


@pytest.mark.parametrize(
    "user, protect, is_told", [("root", True, True), ("root", False, False), ("lando", True, False)]
)
def test_a_worker_that_can_protect_nothing_is_warned_of(user, protect, is_told):
    warning = unprotected(WorkerConfig("/w", user=user, protect=protect))
    assert (warning is not None) is is_told
    if warning:
        assert warning.startswith("worker.user is root: workflows on a VM can read the user data")
        assert "worker.protect: false" in warning


@pytest.mark.parametrize("section", ["", "worker: {protect: true, user: lando}\n"])
def test_nothing_is_protected_on_the_local_cloud(tmp_path, section):
    (tmp_path / "landoconfig.yml").write_text(f"cloud: local\n{section}")
    body = {"git_clone": "/r", "cd": ".", "input": {}, "run_cwl": "w.cwl"}
    task = SendCreate(Job("j", server_name="s", attempt=1), "mark", "token")
    script = ServerRequests(load(tmp_path / "landoconfig.yml")).request(task, body, "d").user_data
    config = json.loads(base64.b64decode(assigned(script, "config")))
    assert config["protect"] is False and config["user"] is None

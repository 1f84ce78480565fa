import json
import os
from dataclasses import replace

import pytest

from lando.message_limits import OUTPUTS_BYTES
from lando_worker import outputs
from lando_worker.result import Result


def test_outputs_that_can_be_sent(tmp_path):
    result = outputs.succeeded('{"x": NaN, "name": "a\\u0000\\ud800", "n": [1]}', tmp_path)
    assert result.outputs == {"x": None, "name": "a?", "n": [1]}
    json.dumps(result.outputs, allow_nan=False, ensure_ascii=False).encode()


def test_outputs_too_large_to_send_are_kept(tmp_path):
    printed = json.dumps({"x": "y" * OUTPUTS_BYTES})
    result = outputs.succeeded(printed, tmp_path)
    assert (result.outcome, result.outputs) == ("succeeded", None)
    assert (tmp_path / outputs.KEPT_AS).read_text() == printed
    assert str(tmp_path / outputs.KEPT_AS) in result.reason


@pytest.mark.parametrize(
    "value, words",
    [
        ([1] * 100_001, "the output object has more than 100,000 values; it is in "),
        (
            json.loads("[" * 150 + "]" * 150),
            "the output object is nested more than 100 levels deep; it is in ",
        ),
    ],
)
def test_outputs_of_a_shape_that_the_daemon_leaves_out_are_kept(tmp_path, value, words):
    printed = json.dumps({"x": value})
    result = outputs.succeeded(printed, tmp_path)
    assert (result.outcome, result.outputs) == ("succeeded", None)
    assert result.reason == words + str(tmp_path / outputs.KEPT_AS)
    assert (tmp_path / outputs.KEPT_AS).read_text() == printed


@pytest.mark.parametrize("printed", ["", "x is valid CWL.", "[1]"])
def test_no_output_object(tmp_path, printed):
    result = outputs.succeeded(printed, tmp_path)
    assert result.outputs is None
    assert "no CWL output object" in result.reason


@pytest.mark.parametrize("kind", ["link", "pipe", "file"])
def test_what_is_kept_replaces_an_output_of_that_name(tmp_path, kind):
    kept, secret = tmp_path / outputs.KEPT_AS, tmp_path / "secret"
    secret.write_text("secret")
    if kind == "link":
        kept.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(kept)
    else:
        kept.touch()
    printed = json.dumps({"x": [1] * 100_001})
    outputs.succeeded(printed, tmp_path)
    assert (kept.read_text(), secret.read_text()) == (printed, "secret")


FAILURE = Result("workflow_failed", "cwltool exited with status 1", exit_code=1, quote_log=True)


def test_outputs_of_a_failure_are_reported(tmp_path):
    result = outputs.with_partial(FAILURE, '{"made": 1, "rest": null}', tmp_path)
    assert result == replace(FAILURE, outputs={"made": 1, "rest": None})


@pytest.mark.parametrize("printed", ["", "{}", "Traceback: ...", "[1]", "[" * 100_000])
def test_a_failure_that_made_nothing_stays_as_it_is(tmp_path, printed):
    assert outputs.with_partial(FAILURE, printed, tmp_path) == FAILURE


def test_large_outputs_of_a_failure_are_kept(tmp_path):
    result = outputs.with_partial(FAILURE, json.dumps({"x": [1] * 100_001}), tmp_path)
    assert (result.outcome, result.outputs, result.exit_code) == ("workflow_failed", None, 1)
    assert result.reason.startswith(
        f"{FAILURE.reason}; the output object has more than 100,000 values; it is"
    )
    assert (tmp_path / outputs.KEPT_AS).exists()


def test_the_listings_of_directories_are_left_out_of_what_is_too_large(tmp_path):
    files = [{"class": "File", "location": f"file:///o/d/{number}"} for number in range(60_000)]
    literal = {"class": "Directory", "basename": "l", "listing": []}
    directory = {"class": "Directory", "location": "file:///o/d", "listing": files}
    result = outputs.succeeded(json.dumps({"d": directory, "l": [literal]}), tmp_path)
    assert result.reason == ""
    assert result.outputs == {"d": {"class": "Directory", "location": "file:///o/d"}, "l": [literal]}
    assert not (tmp_path / outputs.KEPT_AS).exists()

import json
from pathlib import Path

import pytest

from lando_worker import outputs
from lando_worker.clone import GitFailed, Source
from lando_worker.event_pipe import Receiver
from lando_worker.inputs import InputError, located, read
from lando_worker.settings import SettingsError, load

BASE = Path("/clone/a b")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"class": "File", "location": "x.txt"}, {"location": "file:///clone/a%20b/x.txt"}),
        ({"class": "File", "location": "x%20y"}, {"location": "file:///clone/a%20b/x%20y"}),
        ({"class": "File", "path": "x y"}, {"path": "/clone/a b/x y"}),
        ({"class": "Directory", "path": "/abs"}, {"path": "/abs"}),
        ({"class": "File", "location": "https://h/x"}, {"location": "https://h/x"}),
        ({"class": "File", "location": "_:1", "contents": "x"}, {"location": "_:1", "contents": "x"}),
        ({"location": "not a file"}, {"location": "not a file"}),
    ],
)
def test_relative_locations_are_of_cd(given, expected):
    assert located(given, BASE) == {**given, **expected}
    nested = {"x": [{"class": "File", "path": "/p", "secondaryFiles": [given]}]}
    assert located(nested, BASE)["x"][0]["secondaryFiles"][0] == {**given, **expected}


def test_parameters_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none")
    (tmp_path / "list").write_text("[]")
    with pytest.raises(InputError, match="no mapping"):
        read(tmp_path / "list")


def test_outputs_that_can_be_sent(tmp_path):
    result = outputs.succeeded('{"x": NaN, "name": "a\\u0000\\ud800", "n": [1]}', tmp_path)
    assert result.outputs == {"x": None, "name": "a?", "n": [1]}
    json.dumps(result.outputs, allow_nan=False, ensure_ascii=False).encode()


def test_outputs_too_large_to_send_are_kept(tmp_path):
    printed = json.dumps({"x": "y" * outputs.MAX_BYTES})
    result = outputs.succeeded(printed, tmp_path)
    assert (result.outcome, result.outputs) == ("succeeded", None)
    assert (tmp_path / outputs.KEPT_AS).read_text() == printed
    assert str(tmp_path / outputs.KEPT_AS) in result.reason


@pytest.mark.parametrize("printed", ["", "x is valid CWL.", "[1]"])
def test_no_output_object(tmp_path, printed):
    result = outputs.succeeded(printed, tmp_path)
    assert result.outputs is None
    assert "no CWL output object" in result.reason


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://h/g/toy.git", "toy"),
        ("https://h/g/toy/", "toy"),
        ("git@h:toy.git", "toy"),
        ("/a/toy", "toy"),
        ("/a/toy/.git", "toy"),
        ("https://h/..", "clone"),
        ("/", "clone"),
    ],
)
def test_the_clones_own_name(address, name):
    assert Source(address).name == name


@pytest.mark.parametrize(
    ("words", "helps"),
    [
        ("fatal: unable to access 'https://h/': Could not resolve host: h", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 503", True),
        ("fatal: the remote end hung up unexpectedly", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 403", False),
        ("fatal: repository 'https://h/x/' not found", False),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", False),
    ],
)
def test_where_waiting_helps(words, helps):
    assert GitFailed(words).waiting_helps is helps


def test_events_arrive_however_they_are_cut():
    data = b'{"state": {"step": 1}}\n{"result": {}}\n'
    for size in (1, 7, 100):
        receiver = Receiver()
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        events = [event for chunk in chunks for event in receiver.feed(chunk)]
        assert events == [{"state": {"step": 1}}, {"result": {}}]


@pytest.mark.parametrize(
    ("text", "words"), [("{", "not a worker"), ("{}", "'job' is missing"), ("[]", "not a worker")]
)
def test_a_bad_worker_configuration_is_named(tmp_path, text, words):
    path = tmp_path / "worker.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=f"{path}.*{words}"):
        load(path)

from pathlib import Path

import pytest

from lando.yaml_json import read_json
from lando_worker.inputs import NAMED, InputError, missing, read, with_absolute_references, write
from tests.support.another_account import as_another_account, place_of_another_account

BASE = Path("/clone/a b")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"class": "File", "location": "x.txt"}, {"location": "file:///clone/a%20b/x.txt"}),
        ({"class": "File", "location": "x%20y"}, {"location": "file:///clone/a%20b/x%20y"}),
        ({"class": "Directory", "location": "."}, {"location": "file:///clone/a%20b/"}),
        ({"class": "Directory", "location": ".."}, {"location": "file:///clone/"}),
        ({"class": "File", "location": "../x.txt"}, {"location": "file:///clone/x.txt"}),
        ({"class": "Directory", "path": "."}, {"path": "/clone/a b"}),
        ({"$import": "x.yml"}, {"$import": "file:///clone/a%20b/x.yml"}),
        ({"$include": "../x"}, {"$include": "file:///clone/x"}),
        ({"$schemas": ["x.owl", "https://h/y"]}, {"$schemas": ["file:///clone/a%20b/x.owl", "https://h/y"]}),
        ({"class": "File", "path": "x y"}, {"path": "/clone/a b/x y"}),
        ({"class": "Directory", "path": "/abs"}, {"path": "/abs"}),
        ({"class": "File", "location": "https://h/x"}, {"location": "https://h/x"}),
        ({"class": "File", "location": "_:1", "contents": "x"}, {"location": "_:1", "contents": "x"}),
        ({"location": "not a file"}, {"location": "not a file"}),
    ],
)
def test_references_are_relative_to_cd(given, expected):
    assert with_absolute_references(given, BASE) == {**given, **expected}
    nested = {"x": [{"class": "File", "path": "/p", "secondaryFiles": [given]}]}
    found = with_absolute_references(nested, BASE)
    assert found["x"][0]["secondaryFiles"][0] == {**given, **expected}


def test_parameters_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none")
    (tmp_path / "list").write_text("[]")
    with pytest.raises(InputError, match="no mapping"):
        read(tmp_path / "list")


def test_what_is_written_is_for_its_owner_only(tmp_path):
    write(tmp_path / "in.yml", {"a": read_json("1.50"), "f": {"class": "File", "location": "x"}}, BASE)
    assert (tmp_path / "in.yml").read_text() == (
        '{"a": 1.50, "f": {"class": "File", "location": "file:///clone/a%20b/x"}}'
    )
    assert (tmp_path / "in.yml").stat().st_mode & 0o777 == 0o600


def test_missing_files_are_named_with_where_they_were_looked_for(tmp_path):
    (tmp_path / "there 1").write_text("")
    given = {
        "a": {"class": "File", "location": "there%201"},
        "b": {"class": "File", "location": "https://example.org/x", "secondaryFiles": [{"class": "File"}]},
        "c": {"class": "File", "location": "file://[x"},
        "d": {"class": "File", "location": "_:1"},
        "e": {"location": "no file"},
        "f": {"class": "File", "location": "x%00y"},
    }
    assert missing(given, tmp_path) == ""
    absent = {"class": "Directory", "path": "../not/there"}
    given["l"] = [{"class": "File", "location": "there%201", "secondaryFiles": [absent]}]
    said = missing(given, tmp_path / "below")
    assert said.startswith("these inputs are not there: a at ")
    assert f"l[0].secondaryFiles[0] at {tmp_path}/not/there. A relative location starts from" in said
    assert f"and {9 - NAMED} more. " in missing({"x": [absent] * 9}, tmp_path)


@pytest.mark.parametrize("name", ["n" * 300, "d/" * 3000, "locked/x"])
def test_an_input_that_cannot_be_looked_for_is_named(name: str) -> None:
    with place_of_another_account() as theirs:
        (theirs / "locked").mkdir(0o000)
        given = {"f": {"class": "File", "location": name}}

        def look() -> None:
            raise AssertionError(missing(given, theirs))

        assert f"not there: f at {theirs}/{name[:200]}" in as_another_account(look)

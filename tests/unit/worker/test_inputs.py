from pathlib import Path

import pytest

from lando_worker.inputs import InputError, read, with_absolute_locations

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
def test_relative_locations_are_relative_to_cd(given, expected):
    assert with_absolute_locations(given, BASE) == {**given, **expected}
    nested = {"x": [{"class": "File", "path": "/p", "secondaryFiles": [given]}]}
    found = with_absolute_locations(nested, BASE)
    assert found["x"][0]["secondaryFiles"][0] == {**given, **expected}


def test_parameters_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none")
    (tmp_path / "list").write_text("[]")
    with pytest.raises(InputError, match="no mapping"):
        read(tmp_path / "list")

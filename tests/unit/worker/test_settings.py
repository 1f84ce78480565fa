import pytest

from lando_worker.settings import SettingsError, load


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "not a worker"), ("{}", "'job' is missing"), ("[]", "not a worker")]
)
def test_a_bad_worker_configuration_is_named(tmp_path, text, reason):
    path = tmp_path / "worker.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=f"{path}.*{reason}"):
        load(path)

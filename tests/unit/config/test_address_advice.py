import pytest

from lando.config import address_advice


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("github.com/org/repo", "https://github.com/org/repo"),
        ("www.example.org/x.git", "https://www.example.org/x.git"),
        ("//git.example.org/x", "https://git.example.org/x"),
        ("10.0.0.5/org/repo", "https://10.0.0.5/org/repo"),
        ("10.0.0.5:3000/org/repo", "https://10.0.0.5:3000/org/repo"),
        ("https:/github.com/org/repo", "https://github.com/org/repo"),
        ("HTTPS:/github.com/org/repo", "HTTPS://github.com/org/repo"),
        ("https:github.com/org/repo", "https://github.com/org/repo"),
        ("https:/bob:s3cret@github.com/x", "https://…"),
        ("file:/srv/x", "file:///srv/x"),
        ("localhost:3000/me/x", "https://localhost:3000/me/x"),
        ("git.example.org:8443/me/x", "https://git.example.org:8443/me/x"),
        ("C:\\work\\x", "/mnt/c/x"),
    ],
)
def test_the_address_that_was_meant_is_said(tmp_path, address, meant):
    advice = address_advice.advice(address, tmp_path)
    assert advice.endswith(meant)
    assert "s3cret" not in advice


@pytest.mark.parametrize(
    "address",
    [
        *("https://github.com/org/repo", "git@github.com:org/repo.git", "me@localhost:3000/x", "host:x/y"),
        *("/srv/github.com/x", "../x", "./github.com/x", "~/github.com/x", "toy.git/sub", "toy", "v1.2/x"),
        *("github.com", "here.example.org/x", "git:x", "file:///srv/x"),
    ],
)
def test_what_git_takes_as_it_is_meant_stands(tmp_path, address):
    (tmp_path / "here.example.org" / "x").mkdir(parents=True)
    assert address_advice.advice(address, tmp_path) is None

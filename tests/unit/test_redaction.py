import json
import shlex
from urllib.parse import quote

import pytest

from lando.address import login_secrets, strip_url
from lando.credentials import looks_secret, secret_values
from lando.redaction import mask

SECRET_KEYS = """password db_password dbPassword DBPASSWORD passwd secret client-secret token AUTH_TOKEN
    apiKey api_key aws.secret.access.key private_key privateKey password2 credential credentials
    s3_secret_1 dds_agent_key dds_user_key"""
OTHER_KEYS = "secretome secretary tokenizer key keyboard reads public_key passenger"


@pytest.mark.parametrize("key", SECRET_KEYS.split())
def test_keys_that_look_secret(key):
    assert looks_secret(key)


@pytest.mark.parametrize(
    "key", ["secretome", "secretary", "tokenizer", "key", "keyboard", "reads", "public_key", "passenger"]
)
def test_keys_that_do_not(key):
    assert not looks_secret(key)


def test_secret_values_are_found_however_deep():
    found = secret_values(
        {
            "user": "alice",
            "db": [{"password": "hunter22"}, {"hosts": {"api_key": ["k-one", {"any": "k-two"}]}}],
            "pin_token": 123456,
            "url": "https://bob:s3kr1t@example.org/x",
        }
    )
    assert set(found) == {"hunter22", "k-one", "k-two", "123456", "s3kr1t"}


def test_a_secret_file_is_named_openly_and_read_never():
    found = secret_values({"private_key": {"class": "File", "path": "/home/a/id_rsa", "contents": "PEM"}})
    assert found == ["PEM"]


def test_lines_of_a_secret_are_secrets():
    key = "-----BEGIN-----\nabcdef\n-----END-----\n"
    assert "abcdef" in secret_values({"private_key": key})


@pytest.mark.parametrize("secret", ["it's $(x) `y`", 'quo"te\\', "ümläut pass", "a/b c"])
@pytest.mark.parametrize("spell", [str, json.dumps, quote, shlex.quote, repr])
def test_every_spelling_is_masked(secret, spell):
    assert mask(f"before {spell(secret)} after", [secret]).replace("***", "").strip("'\" ") in (
        "before  after",
        "before '' after",
        'before "" after',
    )


def test_the_longer_secret_is_masked_first():
    assert mask("abcdefgh", ["abcd", "abcdefgh"]) == "***"


def test_a_short_secret_does_not_spoil_every_word():
    assert mask("a cat sat at a", ["a"]) == "*** cat sat at ***"


def test_nothing_to_mask():
    assert mask("text", []) == "text"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://h/x.git", ("https://h/x.git", None, None)),
        ("https://u:p%40ss@h:8/x", ("https://h:8/x", "u", "p@ss")),
        ("https://tok@h/x", ("https://h/x", "tok", None)),
        ("https://u:p@ss@h/x", ("https://h/x", "u", "p@ss")),
        ("ssh://git@h/x", ("ssh://git@h/x", None, None)),
        ("git@h:x/y.git", ("git@h:x/y.git", None, None)),
        ("/a/b@c/d", ("/a/b@c/d", None, None)),
        ("https://h/x@y", ("https://h/x@y", None, None)),
    ],
)
def test_strip_url(url, parts):
    assert strip_url(url) == parts


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("https://oauth2:tok-1@h/x", ["tok-1"]),
        ("https://tok-1@h/x", ["tok-1"]),
        ("https://tok-1:x-oauth-basic@h/x", ["x-oauth-basic", "tok-1"]),
        ("https://u:p%40ss@h/x", ["p@ss"]),
        ("ssh://git@h/x", []),
        ("https://git@h/r", []),
    ],
)
def test_login_secrets(url, secrets):
    _, user, password = strip_url(url)
    assert login_secrets(user, password) == secrets

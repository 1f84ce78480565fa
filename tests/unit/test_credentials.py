"""What counts as a secret, and that no value which does is shown."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lando import messages
from lando.cli.log_stream import LogLines
from lando.cloud.nova import failures
from lando.config import yaml_document
from lando.credentials import job_secrets, looks_secret, scrub, secret_values
from lando.errors import UsageError
from lando.redaction import mask
from lando.store.shown import display_name, shown_labels
from lando.workqueue.interface import first_bytes
from lando_worker.log_buffer import LogBuffer
from lando_worker.outputs import without_secrets

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n"
B64 = "Ym9iOmh1bnRlcjIy"
SAID = "work_queue.password: required; token: expected a string"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"name": "DB_PASSWORD", "value": "hunter22"}, {"hunter22"}),
        ({"Key": "api-key", "Value": "hunter22"}, {"hunter22"}),
        ({"envName": "GITHUB_TOKEN", "envValue": "hunter22"}, {"hunter22"}),
        ([{"name": "secret", "value": {"a": ["hunter22"]}}], {"hunter22"}),
        ({"envDef": {"db_pass": "hunter22"}}, {"hunter22"}),
        ({"auth": {"type": "basic", "user": "alice", "pw": "hunter22"}}, {"hunter22"}),
        ({"AWSSecretKey": "hunter22"}, {"hunter22"}),
        ({"DBPassWd": "hunter22"}, {"hunter22"}),
        ({"pAssWord": "hunter22"}, {"hunter22"}),
        ({"mysecret": "hunter22"}, {"hunter22"}),
        ({"password": 12345}, {"12345"}),
        (["--password", "hunter22", "--verbose"], {"hunter22"}),
        (["--api-key=hunter22"], {"hunter22"}),
        ("tool --token hunter22 --fast", {"hunter22"}),
        ("host=db password=hunter22 user=x", {"hunter22"}),
        ('{"password": "hunter 22"}', {"hunter 22"}),
        ("a: 1\npassword: hunter22\n", {"hunter22"}),
        ("machine h login bob password hunter22", {"hunter22"}),
        ("Authorization: Bearer hunter22", {"hunter22"}),
        ("x-api-key: hunter22", {"hunter22"}),
        ({"Authorization": f"Basic {B64}"}, {"hunter22", B64, f"Basic {B64}"}),
        ("https://hunter22@host/x", {"hunter22"}),
        ("https://hunter22:x-oauth-basic@host/x", {"hunter22", "x-oauth-basic"}),
        ("https://bob:hun#ter/22@host/x", {"hun#ter/22"}),
        ("https://bob:hunter%2322@host/x", {"hunter%2322", "hunter#22"}),
        ("postgresql://bob:hunter22@db/x", {"hunter22"}),
        ("https:\\/\\/bob:hunter22@host", {"hunter22"}),
        ("https://host/x?a=1&private_token=hunter22&b=2", {"hunter22"}),
        ("https://host/x?sig=hunter22", {"hunter22"}),
        ("https://host/x?X-Amz-Signature=hunter22", {"hunter22"}),
        ("https://host/x?temp_url_sig=hunter22&temp_url_expires=12", {"hunter22"}),
        ("https://host/x?AWSAccessKeyId=hunter&Signature=22222", {"hunter", "22222"}),
        ("https://host/x?next=https://bob:hunter22@other", {"hunter22"}),
        ("ghp_" + "a1" * 18, {"ghp_" + "a1" * 18}),
    ],
)  # fmt: skip
def test_secrets_are_found_wherever_they_are_named(value: object, found: set[str]) -> None:
    assert set(secret_values(value)) == found


@pytest.mark.parametrize(
    "value",
    [
        {"pass": True, "auth": False, "password": None, "token": 0, "keys": 12345},
        {"author": "Darwin", "keyboard": "qwertz", "bypass": "yes-x", "passage": "P12", "tokenizer": "bpe16"},
        {"max_tokens": 4096, "n_tokens": "100000", "token_count": 123456, "password_length": 12345678},
        {"passWordLength": 12345678},
        {"low_pass": "butter", "first_pass": "trimmed", "pass_threshold": "0.05-x", "pad_token": "<pad>"},
        {"password_file": "/etc/pw", "secret_name": "DB_SECRET", "token_url": "https://host/token"},
        {"auth": "none", "token_type": "Bearer", "pass": "PASS"},
        {"password": "$(inputs.password)", "PWD": "/home/alice", "token": "${TOKEN}"},
        {"key": "sample-1", "public_key": "ssh-rsa AAAA", "primary_key": "sample_id"},
        "the password: must be set; a bearer certificate; see https://example.org/a@v2, or mail a@b.org",
        "ssh://git@example.org/x and git@example.org:x and https://example.org:8080/x@y",
        "run --key-column sample key=value https://host/x?page=2&sort=name",
    ],
)
def test_what_is_no_secret_is_not_masked(value: object) -> None:
    assert secret_values(value) == []


@pytest.mark.parametrize("key", ["x" * 100_000, "a" * 90_000 + "_password"])
def test_a_long_key_is_read_at_its_ends(key: str) -> None:
    assert looks_secret(key) == key.endswith("password")


def test_a_value_nested_deeper_than_the_stack_is_read() -> None:
    value: Any = {"password": "hunter22"}
    for _ in range(5000):
        value = [value]
    assert secret_values(value) == ["hunter22"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clone of 'https://bot:hunter22@host/s.git' failed", "clone of 'https://bot:***@host/s.git' failed"),
        ('{"git_clone": "https://bob:hunter22', '{"git_clone": "https://bob:***'),
        ('{"password": {"user": {"password": "hunter22"}}}', '{"password": {"user": {"password": "***"}}}'),
        ("GET https://host/x?token=hunter22 failed", "GET https://host/x?token=*** failed"),
        ("Authorization: Bearer hunter22", "Authorization: Bearer ***"),
        (PEM, "-----BEGIN PRIVATE KEY-----***\n"),
        (SAID, SAID),
        ("write postgresql://USER:PASSWORD@HOST/NAME", "write postgresql://USER:PASSWORD@HOST/NAME"),
    ],
)  # fmt: skip
def test_scrub(text: str, shown: str) -> None:
    assert scrub(text) == shown


def encoded(secret: str) -> str:
    return quote(secret, safe="")


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "a key": lambda secret: {"input": {"db_pass": secret}},
    "a nested key": lambda secret: {"input": {"a": [{"credentials": {"any": [secret]}}]}},
    "a pair": lambda secret: {"input": {"env": [{"name": "DB_PASSWORD", "value": secret}]}},
    "EnvVarRequirement": lambda secret: {
        "input": {"cwl:requirements": [{"envDef": [{"envName": "API_TOKEN", "envValue": secret}]}]}
    },
    "lines": lambda secret: {"input": {"private_key": f"first line\n{secret}\nlast line\n"}},
    "an address": lambda secret: {"input": {"url": f"https://bob:{encoded(secret)}@host/x"}},
    "a token in an address": lambda secret: {
        "input": {"in": {"class": "File", "location": f"https://{encoded(secret)}@host/x"}}
    },
    "a parameter": lambda secret: {"input": {"url": f"https://host/x?private_token={encoded(secret)}"}},
    "contents": lambda secret: {
        "input": {"in": {"class": "File", "contents": json.dumps({"token": secret})}}
    },
    "an option": lambda secret: {"cwl_args": ["--api-key", secret]},
    "git_clone": lambda secret: {"git_clone": f"https://bob:{encoded(secret)}@host/r.git"},
    "a token in git_clone": lambda secret: {"git_clone": f"https://{encoded(secret)}@host/r.git"},
    "a label": lambda secret: {"labels": {"token": secret}},
}
SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    json.dumps,
    repr,
    lambda secret: json.dumps(json.dumps({"a": secret})),
    lambda secret: quote(secret, safe=""),
    lambda secret: (
        quote(secret, safe="").lower() if "%" in quote(secret, safe="") and secret.islower() else ""
    ),
    lambda secret: base64.b64encode(secret.encode()).decode(),
    lambda secret: base64.b64encode(f"bob:{secret}".encode()).decode(),
    lambda secret: base64.urlsafe_b64encode(f"xy{secret}tail".encode()).decode(),
    lambda secret: secret.encode().hex(),
)
CHARACTERS = st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="\"'\\")
SECRETS = st.text(CHARACTERS, min_size=8, max_size=40).filter(
    lambda text: not text.isdecimal() and text.strip() == text and not text.startswith(("-", "$"))
)


def leaked(secret: str, text: str) -> str:
    """The spelling of the secret that is in the text; "" if there is none."""
    raw = secret.encode()
    core = base64.b64encode(raw)[: len(raw) * 8 // 6].decode()
    forms = (secret, json.dumps(secret)[1:-1], encoded(secret), raw.hex(), core)
    return next((form for form in forms if form in text), "")


@given(SECRETS, st.sampled_from(sorted(PLACES)), st.data())
def test_no_planted_secret_is_shown(secret: str, place: str, data: st.DataObject) -> None:
    body: dict[str, Any] = {
        "git_clone": "/r",
        "cd": ".",
        "run_cwl": "w.cwl",
        "input": {},
        **PLACES[place](secret),
    }
    body["name"] = data.draw(st.sampled_from(["plain", f"job {secret}", f"x/{secret}.cwl"]))
    body["labels"] = {"who": f"by {secret}", **body.get("labels", {})}
    secrets = job_secrets(body)
    assert leaked(secret, display_name(body)) == ""
    assert leaked(secret, json.dumps(shown_labels(body), ensure_ascii=False)) == ""

    spell = data.draw(st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=5))
    log = LogBuffer(secrets)
    printed = "".join(f"before {form(secret)} after\n" for form in spell).encode() + secret.encode()
    cut = data.draw(st.integers(0, len(printed)))
    log.feed(printed[:cut])
    first = log.take()
    log.feed(printed[cut:])
    log.close()
    shown = first + log.take() + log.tail()
    assert leaked(secret, shown) == "" and "before " in shown and " after" in shown

    output = {"a": [secret, {"b": f"is {secret}"}], "f": {"class": "File", "contents": secret, "path": "/p"}}
    assert leaked(secret, json.dumps(without_secrets(output, log.masked), ensure_ascii=False)) == ""


def test_a_file_in_the_outputs_keeps_its_place() -> None:
    output = {"f": {"class": "File", "path": "/data/x", "basename": "data", "secondaryFiles": []}}
    assert without_secrets(output, lambda text: mask(text, ["data"])) == output


USER_DATA = base64.b64encode(b"#!/bin/bash\nconfig=" + base64.b64encode(b"hunter22" * 40)).decode()


@pytest.mark.parametrize("quoted", [USER_DATA, json.dumps({"server": {"user_data": USER_DATA}})])
def test_a_cloud_that_quotes_user_data_does_not_show_it(quoted: str) -> None:
    said = failures._short(f"Invalid input for field/attribute user_data. Value: {quoted}. is too long")
    assert said.startswith("Invalid input") and said.endswith("is too long") and "***" in said
    assert not any(USER_DATA[at : at + 20] in said for at in range(0, len(USER_DATA), 20))


def test_what_is_no_user_data_is_shown_whole() -> None:
    said = (
        f"no image {'0123456789abcdef' * 4} in /var/lib/nova/instances/0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11, "
        f"ssh-rsa AAAA{'b' * 100} host"
    )
    assert failures.without_secrets(said) == said


@pytest.mark.parametrize(
    "raw",
    [
        b'{"git_clone": "https://bob:hunter22-and-a-long-rest-of-the-password@host/r"}',
        b'{"git_clone": "https://bob:hunter22',
        b'{"password": "hunter22',
        b"\xff https://hunter22@host",
    ],
)
def test_the_first_bytes_of_a_dead_letter_show_no_credential(raw: bytes) -> None:
    assert b"hunter" not in first_bytes(raw) and first_bytes(raw)[:1] == raw[:1]


def test_what_is_wrong_with_a_message_shows_no_credential() -> None:
    envelope = {"version": 1, "type": "https://bob:hunter22-and-a-long-rest-of-the-password-of-60@host/r"}
    with pytest.raises(messages.Malformed) as wrong:
        messages.decode(json.dumps(envelope).encode())
    assert "unknown type" in str(wrong.value) and "hunter" not in str(wrong.value)


def test_a_mistake_in_a_file_shows_no_credential() -> None:
    document = yaml_document.parse("a: 1\n", "job.yml")
    document.complain(("git_clone https://bob:hunter22@host/r",), "unknown key")
    with pytest.raises(UsageError) as wrong:
        document.check()
    assert "unknown key" in str(wrong.value) and "hunter22" not in str(wrong.value)


def test_the_log_of_the_daemon_shows_no_credential() -> None:
    record = logging.LogRecord(
        "lando", logging.INFO, "", 1, "failed: %s", ("https://bob:hunter22@host",), None
    )
    assert LogLines("%(message)s").format(record) == "failed: https://bob:***@host"

"""Addresses that git and other parsers of URLs would read differently."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lando.address import ambiguity, strip_url
from lando.config import job_file
from lando.errors import UsageError
from lando.store.shown import display_name

BODY = {"git_clone": "https://example.org/r.git", "cd": ".", "input": {}, "run_cwl": "w.cwl"}


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("https://bob:hunter#2@host/r", "%23"),
        ("https://example.org/r#hunter", "git_ref"),
        ("https://bob:hunter?2@host/r", "%3F"),
        ("https://example.org/r.git?private_token=hunter", "%3F"),
        ("https://bob:hunter\\2@host/r", "%5C"),
        ("https://bob:hunter 2@host/r", "%20"),
        ("https://bob:hunter\t2@host/r", "control characters"),
        ("https://bob:hunter\x7f2@host/r", "control characters"),
        ("https://bob:hunter@2@host/r", "%40"),
        ("https://bob:hunter[2@host/r", "%5B"),
        ("https://bob:hunter/2@host/r", "%2F"),
        ("https://bob:12/hunter@host/r", "%2F"),
        ("https://hun/ter@example.org/r", "%2F"),
        ("https://bob:hunter", "user:password@"),
        ("bob:hunter@host/r", "USER:TOKEN@host"),
        ("//bob:hunter@host/r", "USER:TOKEN@host"),
        ("//hunter@host/r", "USER:TOKEN@host"),
        ("https://bob:hunter%0a2@host/r", "control character"),
        ("https://bob:hunter%00@host/r", "control character"),
        ("https://bob:hunter%ff@host/r", "UTF-8"),
        ("https://fe80::1/r", "brackets"),
        ("https://2001:db8:0:0:0:0:0:1/r", "brackets"),
        ("https://[fe80::1/r", "brackets"),
        ("https://[/r", "brackets"),
        ("https://[hunter]/r", "brackets"),
        ("https://example.org:hunter/r", "port"),
        ("https://example.org:70000/r", "port"),
        ("https://ex%61mple.org/r", "DNS"),
        ("https://exämple.org/r", "DNS"),
        ("ssh://%2DoProxyCommand=hunter@host/r", "option"),
        ("ssh://%2DoProxyCommand=hunter/r", "DNS"),
        ("bob:hunter@host:r", "https://"),
        ("bob:hunter@host/r", "https://"),
        ("hunter@example.org/o/r", "https://"),
        ("a@hunter@host:r", "more than one @"),
    ],
)
def test_what_is_read_differently_is_refused_without_being_shown(address: str, hint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        job_file.from_body({**BODY, "git_clone": address})
    words = str(refusal.value)
    assert words.startswith("start_worker message: git_clone: ") and hint in words
    name = display_name({**BODY, "git_clone": address})
    assert not any(part in words + name for part in ("hunter", "hun/", "ter@", "2@"))


@pytest.mark.parametrize(
    "address",
    [
        "https://bob:hunter%23%2F%3F%40%20%5C2@host/r",
        "https://h/x@y",
        "https://[2001:db8::1]:8443/r",
        "https://example.org:8443/r",
        "ssh://git@[fe80::1%25eth0]/r",
        "file:///srv/a%23b",
        "/srv/a#b?c d@e",
        "git@example.org:a#b",
    ],
)
def test_what_means_one_thing_only_is_taken(address: str) -> None:
    assert ambiguity(address) is None


PARTS = st.text(st.sampled_from("aZ09:@/#?%\\[]-. ü\t"), max_size=12)


@given(PARTS, PARTS, PARTS)
def test_urllib_and_git_read_the_same_in_what_is_taken(before: str, host: str, path: str) -> None:
    address = f"https://{before}@{host}/{path}"
    if ambiguity(address) is not None:
        return
    parts = urlsplit(address)
    # As credential.c of git splits it: at the first @ and the first : before the first of / ? #.
    authority = address[8:].split("/", maxsplit=1)[0]
    userinfo, _, rest = authority.partition("@")
    assert parts.netloc == authority and "@" not in rest
    user, _, password = userinfo.partition(":") if "@" in authority else ("", "", "")
    assert (parts.username or "", parts.password or "") == (user, password)
    shown = rest if "@" in authority else authority
    assert strip_url(address)[0] == f"https://{shown}{address[8 + len(authority) :]}"

"""Credentials that must not be shown: in settings, in a job's input, in addresses; and how text is masked."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

MASK = "***"

CREDENTIAL = re.compile(
    r"password|passwd|passphrase"  # anywhere in the key; the others only as whole words
    r"|(?:^|_)(?:passcode|pwd|secrets?|(?:auth|access)?tokens?|credentials?|authorization"
    r"|(?:api|access|secret|private|signing|encryption|auth|agent|user|account)_?keys?)(?:_|$)"
)
FILE_KEYS = frozenset(("class", "location", "path", "basename", "format", "checksum"))
"""The fields of a CWL File that hold no content: https://www.commonwl.org/v1.2/CommandLineTool.html#File"""

SHORT = 4
"""Characters. Shorter texts are masked only as whole words, shorter numbers not at all."""

LONG = 16
"""Characters. Longer texts are searched for one by one, the others by one pattern."""

# Begins at the ://, since a search for the scheme before it takes the square of a text without one.
_URL_PASSWORD = re.compile(r"(?<=[a-z0-9+.-])://[^/?#\s@:]*:([^/?#\s]+)@", re.IGNORECASE)


class Secret:
    """Text that no repr, log or error shows; only ``reveal`` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def looks_secret(key: str) -> bool:
    """Whether the value of this key counts as a credential: ``db_password``, ``apiKey2``."""
    snake_case = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key)
    words = re.sub(r"[\W\d_]+", "_", snake_case.lower()).strip("_")
    return CREDENTIAL.search(words) is not None


def secret_values(input: Mapping[str, Any]) -> list[str]:
    """The credentials in a CWL input object: values whose key says so, and passwords inside addresses.

    Nested values are included; of a value of several lines each line, too, since logs are masked by line.
    """
    found: dict[str, None] = {}
    for value in _secrets_in(input, secret=False):
        found[value] = None
        found.update(dict.fromkeys(line.strip() for line in value.splitlines()))
    return [value for value in found if value]


def _secrets_in(value: object, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        is_file = value.get("class") in ("File", "Directory")
        for key, inner in value.items():
            names_file = is_file and key in FILE_KEYS
            yield from _secrets_in(inner, not names_file and (secret or looks_secret(str(key))))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _secrets_in(inner, secret)
    elif isinstance(value, str):
        yield from [value] if secret else _URL_PASSWORD.findall(value)
    elif secret and isinstance(value, (int, float)) and len(str(value)) >= SHORT and value not in (0, 1):
        yield str(value)


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret by ``***``, also where it is escaped as in JSON, a shell or an address."""
    long, pattern = _finders(tuple(secrets))
    for spelling in long:
        text = text.replace(spelling, MASK)
    return pattern.sub(MASK, text) if pattern else text


@lru_cache(maxsize=8)
def _finders(secrets: tuple[str, ...]) -> tuple[list[str], re.Pattern[str] | None]:
    """The long spellings, the longest first, since a secret may be a part of another one; and a pattern of
    the others.

    An alternative of the pattern fails after a few characters. With long ones in it, a text that nearly
    matches would take the product of both lengths.
    """
    spellings = sorted({form for secret in secrets for form in _spellings(secret)}, key=len, reverse=True)
    long = [form for form in spellings if len(form) > LONG]
    words = [form for form in spellings if SHORT <= len(form) <= LONG]
    short = [form for form in spellings if len(form) < SHORT]
    patterns = [_tree(words)] if words else []
    if short:
        patterns.append(rf"(?<!\w){_tree(short)}(?!\w)")
    return long, re.compile("|".join(patterns)) if patterns else None


def _tree(words: Iterable[str]) -> str:
    """A pattern of these words, the longest that is possible, which looks at each first character once."""
    rests: dict[str, list[str]] = {}
    for word in words:
        rests.setdefault(word[:1], []).append(word[1:])
    ends_here = rests.pop("", None) is not None
    branches = [re.escape(first) + _tree(following) for first, following in rests.items()]
    if not branches:
        return ""
    joined = branches[0] if len(branches) == 1 and not ends_here else f"(?:{'|'.join(branches)})"
    return f"{joined}?" if ends_here else joined


def _spellings(secret: str) -> set[str]:
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        quote(secret),
        shlex.quote(secret),
    }
    return forms - {""}


def strip_url(url: str) -> tuple[str, str | None, str | None]:
    """Split an address into ``(address without credentials, user, password)``, the latter two decoded.

    The user of an ssh address stays in the address: ssh needs it, and it is no secret. Paths and scp-like
    addresses are returned unchanged.
    """
    parts = _authority(url)
    if parts is None:
        return url, None, None
    head, userinfo, tail = parts
    user, colon, password = userinfo.partition(":")
    if head.lower().startswith(("ssh://", "git+ssh://", "ssh+git://")):
        return f"{head}{user}@{tail}" if user else head + tail, None, unquote(password) if colon else None
    return head + tail, unquote(user) or None, unquote(password) if colon else None


def login_secrets(user: str | None, password: str | None) -> list[str]:
    """The secrets of a login to a git server: the password, and the user where the user is the token.

    GitHub accepts a token as the user, with the password empty or ``x-oauth-basic``.
    """
    user_is_token = password in (None, "", "x-oauth-basic")
    return [secret for secret in (password, user if user_is_token else None) if secret]


def _authority(url: str) -> tuple[str, str, str] | None:
    """``(scheme://, userinfo, the rest)`` of an address; None if it has no user information."""
    if "://" not in url:
        return None
    try:
        authority = urlsplit(url).netloc
    except ValueError:
        authority = re.split(r"[/?#]", url.partition("://")[2])[0]
    userinfo, at, _ = authority.rpartition("@")
    if not at:
        return None
    scheme, _, rest = url.partition("://")
    return f"{scheme}://", userinfo, rest[len(userinfo) + 1 :]

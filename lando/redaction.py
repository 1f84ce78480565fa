"""Text that must not be shown, and how it is masked in what is shown.

What counts as such is in ``lando.credentials``.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

MASK = "***"

SHORT = 4
"""Characters. Shorter texts are masked only as whole words: elsewhere they would spoil every word that holds
them, and what is left would tell them all the same."""
SHORT_NUMBER = 8
"""Digits. Fewer are masked only where no other digit adjoins: they occur within times and sizes."""

LONG = 16
"""Characters. Longer texts are searched for one by one, the others by one pattern."""


BRIEF = 2000
"""Characters of a text that is searched for secrets one by one."""
LEAST_ENCODED = 6
"""Bytes of a secret that is found within a longer base64 text, and in hexadecimal."""
MOST_SPELLED = 1000
"""Characters of a secret that is found in every spelling; of a longer one there are the lines."""
MOST_WRAPPED = 16 * 1024
"""Bytes of a secret that is found by the lines of its base64 text."""


class Secret:
    """Text that no repr, log or error shows; only ``reveal`` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret by ``***``, also where it is escaped as in JSON, a shell, HTML or an address, and
    where it is encoded in base64, alone or within a longer text."""
    chosen = tuple(secrets)
    if len(text) <= BRIEF:  # to compile a pattern would take longer
        chosen = tuple(secret for secret in chosen if any(form in text for form in spellings(secret)))
    if not chosen:
        return text
    long, pattern = _finders(chosen)
    for spelling in long:
        text = text.replace(spelling, MASK)
    return pattern.sub(MASK, text) if pattern else text


def mask_blobs(text: str) -> str:
    """Replace long runs of base64 by ``***``: an error of a cloud may quote a server's user data.

    Public keys of SSH, digests and file names are no such runs.
    """
    return _BLOB.sub(lambda run: run[0] if _HEX.fullmatch(run[0]) else MASK, text)


def longest(secrets: Iterable[str]) -> int:
    """Bytes of the longest spelling of these secrets."""
    return max(
        (len(form.encode(errors="replace")) for secret in secrets for form in spellings(secret)), default=0
    )


@lru_cache(maxsize=8)
def _finders(secrets: tuple[str, ...]) -> tuple[list[str], re.Pattern[str] | None]:
    """The long spellings, the longest first, since a secret may be a part of another one; and a pattern of
    the others.

    An alternative of the pattern fails after a few characters. With long ones in it, a text that nearly
    matches would take the product of both lengths.
    """
    found = sorted({form for secret in secrets for form in spellings(secret)}, key=len, reverse=True)
    long = [form for form in found if len(form) > LONG]
    numbers = [form for form in found if form.isdecimal() and len(form) < SHORT_NUMBER]
    words = [form for form in found if SHORT <= len(form) <= LONG and form not in numbers]
    short = [form for form in found if len(form) < SHORT and form not in numbers]
    patterns = [_tree(words)] if words else []
    if numbers:
        patterns.append(rf"(?<!\d){_tree(numbers)}(?!\d)")
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


@lru_cache(maxsize=256)
def spellings(secret: str) -> frozenset[str]:
    """How a secret may be written."""
    raw = secret.encode(errors="replace")
    if len(secret) > MOST_SPELLED:
        return frozenset((secret, json.dumps(secret)[1:-1], *_base64(raw)))
    if re.fullmatch("[A-Za-z0-9_.~-]+", secret):  # nothing escapes it
        return frozenset((secret, *_encoded(raw)))
    percent = quote(secret, safe="")
    escaped = json.dumps(secret)[1:-1]
    forms = {
        secret,
        escaped,
        escaped.replace("/", "\\/"),
        json.dumps(escaped)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        repr(raw)[2:-1],
        percent,
        re.sub("%..", lambda escape: escape[0].lower(), percent),
        percent.replace("%20", "+"),
        quote(secret),
        quote(secret, safe=_SAFE_IN_USERINFO),
        quote(secret, safe=_SAFE_IN_ADDRESSES),
        shlex.quote(secret),
        re.sub(r"([^\w@%+=:,./-])", r"\\\1", secret),
        _html(secret, "&#x27;"),
        _html(secret, "&#39;"),
        secret.encode("latin-1", errors="replace").decode(errors="replace"),
        *_encoded(raw),
    }
    return frozenset(forms - {""})


def _html(text: str, apostrophe: str) -> str:
    for character, escape in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ('"', "&quot;"),
        ("'", apostrophe),
    ):
        text = text.replace(character, escape)
    return text


def _encoded(raw: bytes) -> set[str]:
    digits = raw.hex() if len(raw) >= LEAST_ENCODED else ""
    return {*_base64(raw), digits, digits.upper()} - {""}


def _base64(raw: bytes) -> set[str]:
    """What is the same in every base64 text that holds these bytes, by where they are in it; of many bytes,
    the lines of a text that is wrapped after 76 or 64 characters."""
    found = {base64.b64encode(raw)}
    if len(raw) >= LEAST_ENCODED:
        for before, mixed in ((0, 0), (1, 2), (2, 3)):
            encoded = base64.b64encode(bytes(before) + raw)
            found.add(encoded[mixed : (before + len(raw)) * 8 // 6])
    for width in (57, 48):
        if width < len(raw) <= MOST_WRAPPED:
            lines = (raw[at : at + width] for at in range(0, len(raw), width))
            found |= {base64.b64encode(line) for line in lines if len(line) >= LEAST_ENCODED}
    return {form.decode() for form in found} | {form.translate(_URL_SAFE).decode() for form in found}


_SAFE_IN_USERINFO = "!$&'()*+,;=:~"
_SAFE_IN_ADDRESSES = "!#$%&'()*+,/:;=?@[]~"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_BLOB = re.compile(r"(?<![A-Za-z0-9+/_-])(?!AAAA)(?:[A-Za-z0-9+/]{64,}|[A-Za-z0-9_-]{64,})={0,2}")
_HEX = re.compile("[0-9a-f]+|[0-9A-F]+")

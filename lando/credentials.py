"""What counts as a secret: by the key of a value, by its place in a text, and by its shape.

``secret_values`` finds the secrets of a job, which are masked wherever they surface (``redaction.mask``).
``scrub`` masks what looks like a credential in a text whose secrets nobody knows: an error, a dead letter.

docs/job-file.md tells the rules. Everything here takes time in proportion to the length of a text.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, unquote_plus

from lando.address import PUBLIC_USERS, login_secrets, strip_url
from lando.redaction import MASK

_SECRET_NAME = re.compile(
    r"passw(?:or)?d|passphrase|pass_(?:word|phrase|code)"  # anywhere in the key; the others as whole words
    r"|(?:^|_)(?:passcode|passkey|pwd|pw|secrets?|creds?|credentials?|authorization|auth|oauth|bearer|jwt"
    r"|cookies?|psk|t?otp|netrc"
    r"|[a-z]*secret|(?:client|app|api|shared|aws|consumer|jwt|session|webhook|user|db)secrets"
    r"|(?:api|app|auth|access|refresh|id|bearer|session|private|personal|bot|user|deploy|ci|job|github|gitlab"
    r"|git|csrf|xsrf|jwt|oauth|sas|security|client|admin|service)?tokens?"
    r"|(?:api|access|secret|private|signing|encryption|auth|agent|user|account|ssh|session|master|shared"
    r"|storage|deploy|service|rsa|gpg|pgp|hmac|jwt|sas|subscription|consumer|client|license|webhook|admin"
    r"|aws|s3|gcs|azure)_?keys?"
    r"|(?:my|db|user|root|admin|sql|mysql|pg|postgres|s?ftp|smtp|mail|ldap|https?|proxy|ssh|login|key|store"
    r"|vnc|git|svn|aws|irods|aspera|ega)pass)(?:_|$)"
)
_PASSWORD = re.compile("passw(?:or)?d", re.IGNORECASE)
_HINT = re.compile("pass|pwd|pw|secret|token|key|cred|auth|bearer|jwt|cookie|psk|otp|netrc")
"""A part of every such name, in lower case."""
_PASS = re.compile(
    r"(?<![^_])(?<!low_)(?<!high_)(?<!band_)(?<!all_)(?<!by_)(?<!per_)(?<!qc_)(?<!first_)(?<!second_)(?<!third_)"
    r"(?<!last_)(?<!final_)(?<!single_)(?<!double_)(?<!multi_)(?<!one_)(?<!two_)(?<!three_)(?<!filter_)"
    r"(?<!quality_)(?<!test_)(?<!tests_)(?<!must_)(?<!did_)(?<!non_)pass$"
)
"""A ``pass`` at the end, but a pass over the data, a filter's, or a test's."""
_NO_SECRET_NAME = re.compile(
    r"^(?:max|min|num|number|n|total|count|has|is|use|pad|eos|bos|unk|cls|sep|mask|stop|special)_"
    r"|(?:^|_)(?:limit|length|len|size|count|total|ttl|timeout|expiry|expires|expiration|lifetime|age|policy"
    r"|type|kind|mode|method|scheme|backend|provider|format|name|names|user|username|login|email|host|hostname"
    r"|port|server|realm|region|domain|file|files|path|paths|dir|directory|url|uri|endpoint|field|column"
    r"|version|algorithm|required|enabled|attempts|retries|usage|rate|index|prefix)$"
)
"""A number of tokens, the type of a password, the name or the place of a secret: no secret itself."""
_NAMES_OF_NAMES = ("name", "key", "envname", "variable", "var", "field", "header", "parameter", "param")
_NAMES_OF_VALUES = ("value", "envvalue", "val", "values", "content", "contents", "text", "data")
"""How the two halves of a pair are called: ``{name: DB_PASSWORD, value: …}``."""
FILE_KEYS = frozenset(("class", "location", "path", "basename", "format", "checksum"))
"""The fields of a CWL File that hold no content: https://www.commonwl.org/v1.2/CommandLineTool.html#File"""
_SETTINGS = frozenset(
    (
        *("true", "false", "yes", "no", "on", "off", "null", "none", "nil", "auto", "default", "ok", "plain"),
        *(
            "enabled",
            "disabled",
            "required",
            "optional",
            "always",
            "never",
            "first",
            "second",
            "pass",
            "fail",
        ),
        *("passed", "failed", "basic", "bearer", "digest", "negotiate", "token", "oauth", "oauth2", "oidc"),
        *("saml", "ldap", "pam", "kerberos", "ssh", "https", "http", "tls", "ssl", "keystone", "password"),
        *("passwd", "login", "anonymous", "public", "private"),
    )
)
"""Values that are settings whatever their key says: masking them would spoil every log."""
_QUERY_SECRETS = frozenset(
    (
        *("sig", "signature", "key", "code", "ticket", "session", "sid", "sessionid", "hmac", "temp_url_sig"),
        *("x-amz-signature", "x-amz-security-token", "x-amz-credential", "awsaccesskeyid"),
        *("x-goog-signature", "x-goog-credential", "googleaccessid"),
    )
)
"""Names of parameters in an address that are secrets, beside those that ``looks_secret`` knows."""

LONGEST_KEY = 200
"""Characters of a key that are looked at, half of them at its end."""
_LEAST_LINE = 6
"""Characters of a line that is masked of a secret of several lines."""
_LEAST_NUMBER, _LEAST_OTHER_NUMBER = 4, 6
"""Digits of a number that is masked: under a password's key, and under another."""


def looks_secret(key: str) -> bool:
    """Whether the value of this key counts as a credential: ``db_password``, ``apiKey2``, ``dbPass``."""
    if len(key) > LONGEST_KEY:
        key = f"{key[: LONGEST_KEY // 2]}_{key[-LONGEST_KEY // 2 :]}"
    return _may_name_secret(key) and _is_secret_name(_words(key))


def _may_name_secret(text: str) -> bool:
    """Whether a text may have a name in it that is a secret's; fast, since most have none."""
    return _HINT.search(text.lower()) is not None


def _words(key: str) -> str:
    key = _PASSWORD.sub(lambda word: word[0].capitalize(), key)  # PassWd is one word
    snake_case = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[\W\d_]+", "_", snake_case.lower()).strip("_")


def _is_secret_name(words: str) -> bool:
    """``words``: of ``_words``; "" is no name."""
    if _SECRET_NAME.search(words) is None and _PASS.search(words) is None:
        return False
    return _NO_SECRET_NAME.search(words) is None


def job_secrets(body: Mapping[str, Any]) -> list[str]:
    """The secrets of a job, from its start_worker body, which need not be valid."""
    address = body.get("git_clone")
    login = []
    if isinstance(address, str):
        _, user, password = strip_url(address)
        login = login_secrets(user, password)
        login += [match[1] for match in re.finditer(r"^[^/:@\s]+:([^/@\s]+)@", address)]
    return list(dict.fromkeys([*secret_values(body), *login]))


def secret_values(value: object) -> list[str]:
    """The credentials in a JSON value, such as a CWL input object, by the rules of docs/job-file.md.

    Of a secret of several lines each longer line is included, since logs are masked by line.
    """
    found: dict[str, None] = {}
    # Not by recursion: a message from the queue may be nested deeper than Python's stack.
    left: list[tuple[object, str]] = [(value, "")]
    while left:
        inner, key = left.pop()
        if isinstance(inner, (str, int, float)):
            for secret in _secrets_in(inner, key):
                found.update(dict.fromkeys(_forms(secret)))
            left += [(parsed, key) for parsed in _json_in(inner)]
        else:
            left += _inner(inner, key)
    found.pop("", None)
    return list(found)


def _json_in(value: object) -> Iterator[object]:
    """What a text says in JSON, such as the contents of a file with credentials."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):
            yield json.loads(value)


def _inner(value: object, key: str) -> Iterator[tuple[object, str]]:
    """The values in a mapping or list, each with the words of the secret's key that it belongs to.

    Args:
        value: the mapping or list.
        key: the words of the key that it belongs to itself; "" if that is no secret's.
    """
    if isinstance(value, Mapping):
        yield from _in_mapping(value, key)
    elif isinstance(value, Sequence):
        flag = ""
        for item in value:
            yield item, key or flag
            flag = _flag(item)


def _in_mapping(value: Mapping[Any, object], key: str) -> Iterator[tuple[object, str]]:
    is_file = value.get("class") in ("File", "Directory")
    pair = _words_of_pair(value)
    for name, inner in value.items():
        words = _words(str(name)) if key or looks_secret(str(name)) else ""
        if is_file and name in FILE_KEYS:
            yield inner, ""
        elif words and _is_secret_name(words):
            yield inner, words
        elif pair and str(name).lower() in _NAMES_OF_VALUES:
            yield inner, pair
        else:
            yield inner, "" if key and _NO_SECRET_NAME.search(words) else key


def _secrets_in(value: str | float, key: str) -> Iterator[str]:
    if isinstance(value, str):
        if key and _is_secret_text(value, key):
            yield value
        yield from texts_in(value)
    elif key and not isinstance(value, bool):
        least = _LEAST_NUMBER if re.search("pass|secret|pwd", key) else _LEAST_OTHER_NUMBER
        yield from [str(value)] if len(str(value)) >= least else []


def _words_of_pair(value: Mapping[Any, object]) -> str:
    for name, inner in value.items():
        if str(name).lower() in _NAMES_OF_NAMES and isinstance(inner, str) and looks_secret(inner):
            return _words(inner)
    return ""


def _flag(item: object) -> str:
    """The words of an option whose value is the next item of the list: ``--password``."""
    if isinstance(item, str) and re.fullmatch(r"--?[A-Za-z][\w.-]{0,79}", item):
        words = _words(item)
        return words if _is_secret_name(words) else ""
    return ""


def _is_secret_text(text: str, key: str) -> bool:
    stripped = text.strip()
    if stripped.lower() in _SETTINGS or (stripped.startswith(("$(", "${")) and stripped[-1] in ")}"):
        return False
    if key in ("pwd", "oldpwd") and stripped.startswith("/"):
        return False  # the working directory of a shell
    return not stripped.isdecimal() or len(stripped) >= _LEAST_NUMBER


def _forms(secret: str) -> Iterator[str]:
    """The secret, and the parts of it that are secrets themselves."""
    yield secret
    stripped = secret.strip()
    yield stripped
    if "\n" in stripped:
        yield from (line for line in map(str.strip, stripped.splitlines()) if len(line) >= _LEAST_LINE)
    header = re.match(r"(basic|bearer|token|digest|negotiate|apikey)\s+(\S{4,})\Z", stripped, re.IGNORECASE)
    if header is not None:
        yield header[2]
        if header[1].lower() == "basic":
            yield from _basic(header[2])
    cookie = re.match(r"[\w.-]{1,80}=([^\s;]{4,})", stripped)
    if cookie is not None:
        yield cookie[1]


def _basic(text: str) -> Iterator[str]:
    try:
        _, colon, password = base64.b64decode(text + "==").decode().partition(":")
    except (binascii.Error, ValueError):
        return
    if colon:
        yield password


Span = tuple[int, int]

_IS_MORE = re.compile("[/:= ]")
"""Every text has one of these that names a secret, unless it begins as one."""


def texts_in(text: str) -> Iterator[str]:
    """The secrets that a text names as such, in addresses, headers, options and assignments, or by shape."""
    if len(text) < 4 or (_IS_MORE.search(text) is None and not text.startswith(_BEGINNINGS)):
        return
    for start, end in (*_in_addresses(text), *_in_headers(text), *_by_shape(text)):
        value = text[start:end]
        yield from (value, unquote(value), unquote_plus(value))
        if text[max(0, start - 6) : start].lower() == "basic ":
            yield from _basic(value)
    for start, end in _in_assignments(text, _ASSIGNMENT):
        value = text[start:end]
        if value.lower() not in _SETTINGS:
            yield value
            rest = re.compile(r"\S{1,256}").match(text, end)
            if rest is not None and text[end] in ",;" and not text[end + 1 : end + 2].isspace():
                yield value + rest[0]


def scrub(text: str, assignments: bool = True) -> str:
    """``text`` with everything masked that looks like a credential.

    Args:
        text: its secrets are not known; the words after ``password: `` may be those of an error.
        assignments: mask ``password=…`` and ``"password": "…"``, too.
    """
    spans = [*_in_addresses(text), *_in_headers(text), *_by_shape(text)]
    if assignments:
        spans += _in_assignments(text, _STRICT_ASSIGNMENT)
    pieces, done = [], 0
    for start, end in sorted(spans):
        if end > done and text[start:end] not in _PLACEHOLDERS:
            pieces += [text[done:start], MASK] if start >= done else []
            done = end
    return "".join(pieces) + text[done:]


_PLACEHOLDERS = ("PASSWORD", "TOKEN", "SECRET", MASK)
"""What our own messages say where a credential goes."""

# Begins at the :, since a search for the scheme before it takes the square of a text without one.
_ADDRESS = re.compile(r"(?<=[A-Za-z0-9+.-]):\\?/\\?/((?:(?!:\\?/\\?/)[^\s\"'<>])+)")
_PARAMETER = re.compile(r"[?&;#]([\w.%\[\]-]{1,80})=([^&;#\s]+)")
_WEB = re.compile(r"(?:https?|davs?|ftps?)$", re.IGNORECASE)


def _in_addresses(text: str) -> Iterator[Span]:
    """Passwords, and tokens in place of a user; secret parameters. Also of addresses that are not valid."""
    for match in _ADDRESS.finditer(text):
        rest, begin = match[1], match.start(1)
        end = _end_of_userinfo(rest)
        userinfo = rest[:end]
        user, colon, password = userinfo.partition(":")
        if colon and password:
            yield begin + len(user) + 1, begin + end
        user_is_token = password in ("", "x-oauth-basic") and user.lower() not in PUBLIC_USERS
        if user and user_is_token and _WEB.search(text[max(0, match.start() - 8) : match.start()]):
            yield begin, begin + len(user)
        for parameter in _PARAMETER.finditer(rest, end):
            name = unquote(parameter[1])
            if name.lower() in _QUERY_SECRETS or looks_secret(name):
                yield begin + parameter.start(2), begin + parameter.end(2)


def _end_of_userinfo(rest: str) -> int:
    """Where the user information of an address ends, without its ``://``; 0 if it has none.

    A password may hold what should have been encoded: ``bob:pw#x@host``, and the address may be cut within.
    """
    authority = re.match(r"[^/?#\\]*", rest)
    strict = authority[0] if authority else ""
    if "@" in strict:
        return strict.rindex("@")
    host, colon, port = strict.partition(":")
    names_port = colon and (not port or port.isdecimal())
    if host.startswith("[") or (names_port and ("." in host or host == "localhost")):
        return 0
    first = rest.find("@")
    if first < 0:
        return len(strict) if colon and port and not port.isdecimal() and port.isprintable() else 0
    next_slash = rest.find("/", first)
    at = rest.rfind("@", 0, next_slash if next_slash >= 0 else len(rest))
    if colon and port and not port.isdecimal():
        return at
    name = rest[at + 1 : next_slash if next_slash >= 0 else len(rest)]
    is_query = rest[len(strict) : len(strict) + 1] == "?" and "=" in rest[len(strict) : at]
    return at if "." not in host and "." in name and not is_query else 0


_HEADER = re.compile(
    r"(?<![\w-])(?:authorization[\"']?[ \t]{0,8}[:=][ \t]{0,8}[\"']?"
    r"(?:(?:basic|bearer|token|digest|negotiate|apikey)[ \t]{1,8})?([^\s\"',;]{4,})"
    r"|bearer[ \t]{1,8}([A-Za-z0-9._~+/=-]{8,}))",
    re.IGNORECASE,
)


def _in_headers(text: str) -> Iterator[Span]:
    """Authorization headers; bearer tokens elsewhere that hold a digit or are long, unlike words."""
    lowered = text.lower()
    if "bearer" not in lowered and "authorization" not in lowered:
        return
    for match in _HEADER.finditer(text):
        if match[1] is not None:
            yield match.span(1)
        elif len(match[2]) >= 20 or re.search(r"\d", match[2]):
            yield match.span(2)


_SHAPE = re.compile(
    r"(?<![\w-])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})"
)
_BEGINNINGS = ("gh", "glpat-", "xox", "AKIA", "ASIA", "AIza", "hf_", "sk-", "eyJ")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----")


def _by_shape(text: str) -> Iterator[Span]:
    """Tokens of known services, JSON web tokens, and private keys."""
    if any(beginning in text for beginning in _BEGINNINGS):
        yield from (match.span() for match in _SHAPE.finditer(text))
    key = _PRIVATE_KEY.search(text) if "PRIVATE KEY" in text else None
    while key is not None:
        end = text.find("-----END", key.end())
        close = -1 if end < 0 else text.find("-----", end + 8)
        stop = len(text) if close < 0 else close + 5
        yield key.end(), stop
        key = _PRIVATE_KEY.search(text, stop)


_OPTION = r"(?<![\w.-])-{1,2}(?P<option>[A-Za-z][\w.-]{0,79})(?:[ \t]{1,8}|=)"
_ASSIGNMENT = re.compile(
    rf"{_OPTION}|(?<![\w.-])[\"']?(?P<name>[A-Za-z_][\w.-]{{0,79}})[\"']?[ \t]{{0,8}}=>?[ \t]{{0,8}}"
    # At the beginning of something, since "the password: must be" is a sentence.
    r"|(?:^|(?<=[\n{,;(\"']))[ \t]{0,20}(?:-[ \t]{1,8})?[\"']?(?P<key>[A-Za-z_][\w.-]{0,79})[\"']?"
    r"[ \t]{0,8}:(?!//)[ \t]{0,8}"
    r"|(?<![\w.-])(?P<netrc>login[ \t]{1,8}\S{1,80}\s{1,8}password)[ \t]{1,8}"
)
_STRICT_ASSIGNMENT = re.compile(
    rf"{_OPTION}|(?<![\w.-])(?P<name>[A-Za-z_][\w.-]{{0,79}})=(?!=)"
    r"|\\?[\"'](?P<key>[A-Za-z_][\w.-]{0,79})\\?[\"'][ \t]{0,8}:[ \t]{0,8}(?=\\?[\"'])"
)
_VALUE = re.compile(r"\\?\"(?P<a>[^\"\\]+)|\\?'(?P<b>[^'\\]+)|(?P<c>[^\s\"',;&<>|]+)")


def _in_assignments(text: str, pattern: re.Pattern[str]) -> Iterator[Span]:
    """``password=…``, ``"password": "…"``, ``--password …``, and of ``_ASSIGNMENT`` also ``password: …``."""
    match = pattern.search(text) if _may_name_secret(text) else None
    while match is not None:
        place = match.end()
        name = match[match.lastgroup or 0]
        value = _VALUE.match(text, place) if looks_secret(name) else None
        if value is not None and value.lastgroup is not None:
            place = value.end()
            if not (match.lastgroup == "option" and value[0].startswith("-")):
                yield value.span(value.lastgroup)
        match = pattern.search(text, max(place, match.end()))

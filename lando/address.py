"""Addresses of repositories: their credentials, and what git and other parsers of URLs read differently.

git takes the first ``@`` for the end of the user information, libcurl and Python's urllib the last one before
a ``/``, ``?`` or ``#``. Where they disagree, a part of a password would be taken for a host or a path, and be
shown. Such an address is refused; percent-encoded it means one thing only.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

PUBLIC_USERS = frozenset(("git", "anonymous", "oauth2", "x-access-token", "x-token-auth", "gitlab-ci-token"))
"""Users that are the same for everybody, so that a user without a password is no token."""
SSH = ("ssh", "git+ssh", "ssh+git")

_NAMES = {" ": "a space", "\t": "a tab", "\n": "a line break", "\r": "a line break"}


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
    if head.lower().removesuffix("://") in SSH:
        return f"{head}{user}@{tail}" if user else head + tail, None, unquote(password) if colon else None
    return head + tail, unquote(user) or None, unquote(password) if colon else None


def login_secrets(user: str | None, password: str | None) -> list[str]:
    """The secrets of a login to a git server: the password, and the user where the user is the token.

    GitHub accepts a token as the user, with the password empty or ``x-oauth-basic``.
    """
    user_is_token = password in (None, "", "x-oauth-basic") and (user or "").lower() not in PUBLIC_USERS
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


def ambiguity(address: str) -> str | None:
    """What git and other parsers would read differently in an address; None if there is nothing.

    The text never quotes the address, of which any part may be a secret.

    Sources: RFC 3986, section 3; git-clone(1), "GIT URLS"; credential.c and connect.c of git.
    """
    odd = re.search("[\x00-\x1f\x7f]", address)
    if odd is not None:
        return f"holds {_name(odd.group())}; {_encoded(odd.group())}"
    scheme, is_url, rest = address.partition("://")
    if not is_url:
        return _ambiguity_of_scp(address)
    for character in " \\#?":
        if character in rest:
            return f"holds {_name(character)}; {_encoded(character)}{_about(character)}"
    if scheme == "file":
        return None
    authority, _, path = rest.partition("/")
    userinfo, _, host = authority.rpartition("@")
    return _ambiguity_of_userinfo(userinfo) or _ambiguity_of_host(host, path)


def _ambiguity_of_userinfo(userinfo: str) -> str | None:
    if "@" in userinfo:
        return "holds more than one @ before its path; write %40 for an @ in the user or in the password"
    for character in "[]":
        if character in userinfo:
            return f"holds {character} in its user or password; {_encoded(character)}"
    try:
        decoded = unquote_to_bytes(userinfo).decode()
    except UnicodeDecodeError:
        return "has a user or password that is not UTF-8 once it is decoded; encode each byte of its UTF-8"
    if re.search("[\x00-\x1f\x7f]", decoded):
        return "has an encoded control character in its user or password, which git does not take"
    if decoded.startswith("-"):
        return "has a user that begins with -, which ssh would take for an option"
    return None


def _ambiguity_of_host(host: str, path: str) -> str | None:
    name, port = _host_and_port(host)
    if "[" in name or "]" in name:
        return "has brackets around something else than an IPv6 address"
    if "%" in name or not name.isascii():
        return "has a host with encoded or other than ASCII characters; write it as DNS does (xn--…)"
    if ":" in port:
        return "has a host with more than one colon; write an IPv6 address in brackets: [2001:db8::1]"
    if not re.fullmatch("[0-9]{0,5}", port) or int(port or 0) > 65535:
        return (
            "has a port that is no number up to 65535. If that is a password, write user:password@ before the"
            " host, and %2F for a / in the password"
        )
    # The end of a user or password that has an unescaped slash: TO/KEN@example.org/x.
    after = re.search(r"@([^/@:]*)", path)
    if after is not None and (port or "." in after[1]):
        return "holds an @ after its first /; write %2F for a / in a user or password, %40 for an @ of a path"
    return None


def _host_and_port(host: str) -> tuple[str, str]:
    """The name without the brackets of an IPv6 address, and what follows its colon."""
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+(?:%25[\w.~-]+)?)\](?::(.*))?", host)
    if bracketed is not None:
        return "", bracketed[2] or ""
    name, _, port = host.partition(":")
    return name, port


def _ambiguity_of_scp(address: str) -> str | None:
    """Of ``user@host:path``, and of a path."""
    if re.match("//[^/]*@", address):
        return "lacks a scheme: write https://USER:TOKEN@host/path; for a path, begin with one /"
    first, slash, _ = address.partition("/")
    host, colon, path = first.partition(":")
    if colon and "@" in path:
        return (
            "is no address that git knows: ssh takes no password. Write https://USER:TOKEN@host/path, or"
            " user@host:path with a key"
        )
    if colon and host.count("@") > 1:
        return "holds more than one @ before its path"
    if not colon and slash and re.fullmatch(r"[^@]+@[^@]*\w\.\w[^@]*", first):
        return (
            "lacks a scheme or a colon: write https://USER:TOKEN@host/path, or user@host:path for ssh; for a"
            " path, begin with ./"
        )
    return None


def _name(character: str) -> str:
    if character in _NAMES:
        return _NAMES[character]
    return character if character.isprintable() else f"the control character U+{ord(character):04X}"


def _encoded(character: str) -> str:
    return f"write {quote(character, safe='')}"


def _about(character: str) -> str:
    if character == "#":
        return " for one in a password or path; a branch, tag or commit goes into git_ref"
    if character == "?":
        return " for one in a password or path; a token goes before the host: https://user:TOKEN@host/path"
    return ""

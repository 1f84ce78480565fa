"""What is meant by a ``git_clone`` that git reads as something else: an address whose scheme is missing."""

from __future__ import annotations

import os.path
import re
from pathlib import Path

HOST = r"(?:(?:[a-z0-9-]+\.)+(?!git$|cwl$)[a-z]{2,}|(?:\d{1,3}\.){3}\d{1,3})"
"""A name of the domain name system, or an IPv4 address."""


def advice(address: str, base: Path) -> str | None:
    """The address that was probably meant; None if ``address`` may well be one.

    Args:
        address: an address or path that git takes.
        base: where relative paths start; what exists there is a path.
    """
    # https:/h/x and https:h/x; git takes the word before the colon for a host.
    if found := re.fullmatch(r"(https?|ssh|git|file):(/(?!/).*)", address, re.IGNORECASE | re.DOTALL):
        return _instead(f"{found[1]}://", found[2] if found[1].lower() == "file" else found[2][1:])
    if found := re.fullmatch(rf"(https?):({HOST}/.*)", address, re.IGNORECASE | re.DOTALL):
        return _instead(f"{found[1]}://", found[2])
    host, colon, path = address.partition(":")
    if colon and re.fullmatch(rf"localhost|{HOST}", host, re.IGNORECASE) and re.match(r"\d{1,5}/", path):
        return f"git takes {path.partition('/')[0]} for a directory, by ssh; {_instead('https://', address)}"
    if re.match(r"[A-Za-z]:\\", address):
        return "is a path of Windows; in WSL, C:\\x is /mnt/c/x"
    return _of_path(address, base)


def _of_path(address: str, base: Path) -> str | None:
    host, slash, path = address.removeprefix("//").partition("/")
    if not slash or re.fullmatch(HOST, host, re.IGNORECASE) is None or os.path.exists(base / address):
        return None
    return f"there is no such path; {_instead('https://', host + slash + path)}"


def _instead(scheme: str, rest: str) -> str:
    # What stands before an @ may be a token.
    return f"did you mean {scheme}{rest if '@' not in rest else '…'}"

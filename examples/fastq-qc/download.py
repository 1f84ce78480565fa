"""Fetches one file over http, https or file, and verifies its SHA-256."""

from __future__ import annotations

import argparse
import hashlib
import re
import ssl
import sys
import time
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

SCHEMES = ("http", "https", "file")
SILENCE = 60
"""Seconds without a byte after which a try has failed."""
CHUNK = 1 << 20
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, ssl.SSLCertVerificationError, InvalidURL)
"""Errors that a further try does not help. (An HTTP status is judged by itself.)"""


class Failed(Exception):
    """The file cannot be had; the text says why."""


def main() -> None:
    options = arguments()
    try:
        url = absolute(options.url, options.base)
        path = options.into / file_name(url)
        options.into.mkdir(parents=True, exist_ok=True)
        found = download(url, path, options.tries, options.pause)
        if found != options.sha256.strip().lower():
            path.unlink()
            raise Failed(f"{shown(url)}: its SHA-256 is {found}, not {options.sha256} as it should be")
    except Failed as failure:
        sys.exit(f"download: {failure}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--base", type=Path, help="the directory where a relative url starts")
    parser.add_argument("--into", type=Path, default=Path(), help="the directory to save it in")
    parser.add_argument("--tries", type=int, default=4)
    parser.add_argument("--pause", type=float, default=2, help="seconds before the second try; then doubled")
    return parser.parse_args()


def absolute(url: str, base: Path | None) -> str:
    try:
        scheme, host = urlsplit(url)[:2]
    except ValueError:
        raise Failed("url: is no address") from None
    if "@" in host:
        raise Failed("url: user and password in an address are not taken")
    if scheme in SCHEMES:
        return url
    if scheme:
        raise Failed(f"{scheme}: is not taken; it takes {', '.join(SCHEMES)}, and paths relative to base")
    if base is None:
        raise Failed(f"{url}: a relative url needs a base to start from")
    return (base.resolve() / url).as_uri()


def file_name(url: str) -> str:
    """The last part of the path, without the characters that CWL runners refuse in names."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII).lstrip(".-") or "file"


def shown(url: str) -> str:
    """The address without its query, where signed addresses have their signature."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def download(url: str, path: Path, tries: int, pause: float) -> str:
    """Saves the file, trying again what may be a passing failure, and returns its SHA-256."""
    for number in range(1, tries + 1):
        try:
            return fetch(url, path)
        except (OSError, HTTPException) as error:
            complaint = f"{shown(url)}: {words(error)}"
            if number == tries or not may_pass(error):
                raise Failed(complaint) from error
        print(f"download: {complaint}; trying again in {pause:g} s", file=sys.stderr)
        time.sleep(pause)
        pause *= 2
    raise Failed(f"{shown(url)}: not tried")


def fetch(url: str, path: Path) -> str:
    with urlopen(url, timeout=SILENCE) as response, path.open("wb") as file:
        sha256 = copy(response, file)
        expected = response.headers.get("Content-Length")
        if expected is not None and file.tell() != int(expected):
            raise ConnectionError(f"ended after {file.tell()} of {expected} bytes")
    return sha256


def copy(response: HTTPResponse, file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := response.read(CHUNK):
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()


def may_pass(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in (408, 425, 429) or error.code >= 500
    reason = error.reason if isinstance(error, URLError) else error
    return not isinstance(reason, FINAL)


def words(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, InvalidURL):
        return "is no valid address"  # its own words quote the query
    reason = error.reason if isinstance(error, URLError) else error
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__


if __name__ == "__main__":
    main()

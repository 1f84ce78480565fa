"""Copies files into a new directory and writes their checksums beside them.

usage: save.py DIRECTORY FILE...
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir()
    saved = [save(Path(argument), directory) for argument in sys.argv[2:]]
    lines = [f"{sha256(path)}  {path.name}\n" for path in sorted(saved)]
    (directory / "SHA256SUMS").write_text("".join(lines))


def save(source: Path, directory: Path) -> Path:
    target = directory / source.name
    if target.exists():
        sys.exit(f"save: there are two files named {source.name}")
    shutil.copyfile(source, target)
    return target


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    main()

"""Summarizes a FASTQ file as JSON: reads, bases, the mean Phred quality of a base, and GC content in percent.

The format: Cock et al., "The Sanger FASTQ file format", https://doi.org/10.1093/nar/gkp1137
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PHRED_ZERO = ord("!")
GZIP = b"\x1f\x8b"


def main() -> None:
    path = Path(sys.argv[1])
    try:
        with opened(path) as file:
            summary = summarize(file)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        sys.exit(f"summarize: {path.name}: {error}")
    print(json.dumps(summary, indent=2))


def opened(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        compressed = file.read(len(GZIP)) == GZIP
    return gzip.open(path) if compressed else path.open("rb")


def summarize(file: BinaryIO | gzip.GzipFile) -> dict[str, int | float]:
    reads = bases = gc = quality = 0
    for sequence, qualities in records(file):
        letters = sequence.upper()
        reads += 1
        bases += len(letters)
        gc += letters.count(b"G") + letters.count(b"C")
        quality += sum(qualities) - PHRED_ZERO * len(qualities)
    if not bases:
        raise ValueError("holds no reads")
    return {
        "reads": reads,
        "bases": bases,
        "mean_quality": round(quality / bases, 2),
        "gc_percent": round(100 * gc / bases, 2),
    }


def records(file: BinaryIO | gzip.GzipFile) -> Iterator[tuple[bytes, bytes]]:
    """The sequence and qualities of every read."""
    line = 1
    while header := file.readline():
        sequence, plus, qualities = (file.readline().rstrip(b"\r\n") for _ in range(3))
        if not header.startswith(b"@") or not plus.startswith(b"+") or len(sequence) != len(qualities):
            raise ValueError(f"line {line}: no FASTQ record begins here")
        yield sequence, qualities
        line += 4


if __name__ == "__main__":
    main()

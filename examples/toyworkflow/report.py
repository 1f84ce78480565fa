"""Prints a table of several texts: how many words each has, and which are the most frequent."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--texts", "--counts", "--frequent"):
        parser.add_argument(name, nargs="+", type=Path, required=True)
    files = parser.parse_args()
    print(table(files.texts, files.counts, files.frequent))


def table(texts: list[Path], counts: list[Path], frequent: list[Path]) -> str:
    rows = [
        (text.stem, int(count.read_text()), listed(words))
        for text, count, words in zip(texts, counts, frequent, strict=True)
    ]
    rows.append(("total", sum(count for _, count, _ in rows), ""))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'text':<{width}}  {'words':>7}  most frequent"]
    lines += [f"{name:<{width}}  {count:>7,}  {words}".rstrip() for name, count, words in rows]
    return "\n".join(lines)


def listed(frequent: Path) -> str:
    pairs = (line.split("\t") for line in frequent.read_text().splitlines())
    return ", ".join(f"{word} ({count})" for count, word in pairs)


if __name__ == "__main__":
    main()

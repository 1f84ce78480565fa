"""The committed files: ``python -m lando.views.diagram [DIRECTORY]`` writes those of ``diagrams/``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from lando.errors import LandoError
from lando.views.diagram.graphviz import dot, render
from lando.views.diagram.mermaid import mermaid


def stamp(dot_text: str) -> str:
    """A comment that names the dot text an SVG was made of: Graphviz's versions draw texts differently."""
    return f"<!-- made of dot text with sha256 {hashlib.sha256(dot_text.encode()).hexdigest()} -->\n"


def write(directory: Path) -> None:
    """Write machine.mmd, machine.dot and machine.svg.

    Raises:
        LandoError: Graphviz is not installed, or it failed; the text files are written by then.
    """
    text = dot()
    (directory / "machine.mmd").write_text(mermaid(), encoding="utf-8")
    (directory / "machine.dot").write_text(text, encoding="utf-8")
    (directory / "machine.svg").write_bytes(render(text, "svg") + stamp(text).encode())


def _main() -> None:
    given = sys.argv[1:]
    try:
        write(Path(given[0]) if given else Path(__file__).parents[3] / "diagrams")
    except (LandoError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()

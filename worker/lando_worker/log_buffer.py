"""The workflow's output: secrets masked, bounded in memory, and cut into pieces for the reports."""

from __future__ import annotations

import threading
from collections.abc import Collection

from lando.credentials import scrub
from lando.redaction import longest, mask

PIECE = 16 * 1024
"""Bytes of log in one report; ``lando.message_limits`` allows as many characters, and more."""
LIMIT = 1024 * 1024
"""Bytes of log that are reported of one attempt; of the rest only the tail is."""
TAIL = 8 * 1024
"""Bytes of log in the final report."""
LINE = 16 * 1024
"""Bytes above which an unfinished line is reported in pieces."""
WORD = 4 * 1024
"""Bytes before the end of such a piece in which a space is looked for, to end the piece there."""
RECENT = 64 * 1024
"""Bytes of output that are kept for the tail."""


class LogBuffer:
    """Collects output chunk by chunk. ``feed`` and ``take`` may be called from different threads.

    Args:
        secrets: masked everywhere, also if a chunk ends within one.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = tuple(secrets)
        self._overlap = max(longest(self._secrets), 1)
        self._lock = threading.Lock()
        self._open_line = b""
        self._pending = bytearray()
        self._kept = 0
        self._left_out = 0
        self._recent = b""

    def feed(self, chunk: bytes) -> None:
        """Add output."""
        with self._lock:
            self._recent = (self._recent + chunk[-RECENT:])[-RECENT:]
            if self._kept >= LIMIT:
                self._left_out += len(chunk)
            else:
                self._keep(self._complete_lines(chunk))

    def close(self) -> None:
        """There is no more output: add the unfinished line, and how much was left out."""
        with self._lock:
            self._keep(self._masked(self._open_line))
            self._open_line = b""
            if self._left_out:
                self._pending += f"\n[lando: {self._left_out:,} bytes of log left out here]\n".encode()
                self._left_out = 0

    def take(self) -> str:
        """The next piece for a report, of at most PIECE bytes, cut after a line if possible; "" if none."""
        with self._lock:
            piece = bytes(self._pending[:PIECE])
            if len(self._pending) > PIECE:
                end = piece.rfind(b"\n") + 1
                piece = piece[:end] if end else piece.decode(errors="ignore").encode()
            del self._pending[: len(piece)]
            return piece.decode()

    @property
    def has_pending(self) -> bool:
        """Whether ``take`` would return something."""
        return bool(self._pending)

    def tail(self) -> str:
        """The last TAIL bytes of all output."""
        with self._lock:
            recent = self._recent
        if len(recent) == RECENT:
            # The kept output may begin within a secret: drop its first line, or as much as a secret may have.
            line_end = recent.find(b"\n", 0, RECENT // 2)
            recent = recent[line_end + 1 if line_end >= 0 else self._overlap :]
        return self._masked(recent)[-TAIL:].decode(errors="ignore")

    def masked(self, text: str) -> str:
        """``text`` with secrets masked, and without characters that cannot be sent or stored.

        The job's own secrets are known. Others have to look like one: a submodule's address, for example.
        """
        # Not every database stores NUL; half of a surrogate pair is not text.
        known = mask(text.replace("\0", ""), self._secrets)
        return scrub(known, assignments=False).encode(errors="replace").decode()

    def _masked(self, raw: bytes) -> bytes:
        return self.masked(raw.decode(errors="replace")).encode()

    def _complete_lines(self, chunk: bytes) -> bytes:
        """What can be reported now. An unfinished line is held back, so that no secret is cut in two."""
        text = self._open_line + chunk
        end = text.rfind(b"\n") + 1
        lines, self._open_line = self._masked(text[:end]), text[end:]
        if len(self._open_line) > LINE + self._overlap:
            whole = _whole_characters(self._open_line)
            masked = self._masked(self._open_line[:whole])
            cut = max(len(masked) - self._overlap, 0)
            # Not within an address, of which two halves would not look as if they held a password.
            cut = max(masked.rfind(b" ", max(cut - WORD, 0), cut), 0) or cut
            cut = _whole_characters(masked[:cut])
            lines, self._open_line = lines + masked[:cut], masked[cut:] + self._open_line[whole:]
        return lines

    def _keep(self, text: bytes) -> None:
        space = LIMIT - self._kept
        kept = text if len(text) <= space else text[: text.rfind(b"\n", 0, space) + 1 or space]
        self._pending += kept.decode(errors="ignore").encode()
        self._left_out += len(text) - len(kept)
        self._kept = LIMIT if len(kept) < len(text) else self._kept + len(kept)


def _whole_characters(text: bytes) -> int:
    """Bytes of UTF-8 text up to a character at its end that is not complete."""
    for back in range(1, min(4, len(text) + 1)):
        byte = text[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(text) - back if back < needed else len(text)
        if byte < 0x80:
            break
    return len(text)

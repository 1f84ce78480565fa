"""What the workflow printed: masked, bounded in memory whatever it prints, in pieces for the reports."""

from __future__ import annotations

import threading
from collections.abc import Collection

from lando.redaction import mask

PIECE = 16 * 1024
"""Bytes of log in one report."""
LIMIT = 1024 * 1024
"""Bytes of log reported of one attempt; of what follows only the end is kept."""
TAIL = 8 * 1024
"""Bytes of log in the final report."""
LINE = 16 * 1024
"""A longer line is reported in several pieces."""
RECENT = 64 * 1024


class Logbook:
    """Collects output chunk by chunk. ``feed`` and ``take`` may be called from different threads.

    Args:
        secrets: never shown, even where two chunks meet inside one.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = tuple(secrets)
        # A character of a secret takes at most six bytes, written as JSON.
        self._overlap = max((len(secret) for secret in self._secrets), default=1) * 6
        self._lock = threading.Lock()
        self._open_line = b""
        self._pending = bytearray()
        self._kept = 0
        self._left_out = 0
        self._recent = b""

    def feed(self, chunk: bytes) -> None:
        """Take in what was just printed."""
        with self._lock:
            self._recent = (self._recent + chunk[-RECENT:])[-RECENT:]
            if self._kept >= LIMIT:
                self._left_out += len(chunk)
            else:
                self._keep(self._whole_lines(chunk))

    def close(self) -> None:
        """Nothing more will be printed: report the last line, and how much was left out."""
        with self._lock:
            self._keep(self._masked(self._open_line))
            self._open_line = b""
            if self._left_out:
                self._pending += f"\n[lando: {self._left_out:,} bytes of log left out here]\n".encode()
                self._left_out = 0

    def take(self) -> str:
        """The next piece for a report, at most PIECE bytes, up to a line's end where possible; "" if none."""
        with self._lock:
            piece = bytes(self._pending[:PIECE])
            if len(self._pending) > PIECE:
                end = piece.rfind(b"\n") + 1
                piece = piece[:end] if end else piece.decode(errors="ignore").encode()
            del self._pending[: len(piece)]
            return piece.decode()

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._pending)

    def tail(self) -> str:
        """The last TAIL bytes of everything that was printed."""
        with self._lock:
            recent = self._recent
        if len(recent) == RECENT:
            # Whatever a secret's second half may be in goes: the first line, or as much as a secret has.
            line_end = recent.find(b"\n", 0, RECENT // 2)
            recent = recent[line_end + 1 if line_end >= 0 else self._overlap :]
        return self._masked(recent)[-TAIL:].decode(errors="ignore")

    def _whole_lines(self, chunk: bytes) -> bytes:
        """What can be reported now; an unfinished line is held back, so that no secret is cut in two."""
        text = self._open_line + chunk
        end = text.rfind(b"\n") + 1
        lines, self._open_line = self._masked(text[:end]), text[end:]
        if len(self._open_line) > LINE + self._overlap:
            masked = self._masked(self._open_line)
            cut = max(len(masked) - self._overlap, 0)
            lines, self._open_line = lines + masked[:cut], masked[cut:]
        return lines

    def masked(self, text: str) -> str:
        """``text`` as it may be shown."""
        # NUL cannot be stored by every database, and means nothing in a log; nor can half a character.
        return mask(text.replace("\0", ""), self._secrets).encode(errors="replace").decode()

    def _masked(self, raw: bytes) -> bytes:
        return self.masked(raw.decode(errors="replace")).encode()

    def _keep(self, text: bytes) -> None:
        room = LIMIT - self._kept
        kept = text if len(text) <= room else text[: text.rfind(b"\n", 0, room) + 1 or room]
        self._pending += kept.decode(errors="ignore").encode()
        self._left_out += len(text) - len(kept)
        self._kept = LIMIT if len(kept) < len(text) else self._kept + len(kept)

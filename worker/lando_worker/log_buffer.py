"""The workflow's output: secrets masked, bounded in memory, and cut into pieces for the reports.

Output waits as it came until it is taken. While more comes than is taken, the oldest of what waits is left
out, and a line says so where it was: so the end of a log is always there, whatever a tool writes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from lando.credentials import scrub
from lando.redaction import longest, mask

PIECE = 16 * 1024
"""Bytes of log in one report; ``lando.message_limits`` allows as many characters, and more."""
WAITING = 832 * 1024
"""Bytes of output that wait to be taken. With the slack it is less than the daemon stores of a job, so that
the line which says how much is missing, and some of what was reported before, is stored, too."""
SLACK = 128 * 1024
"""Bytes of which more may wait for a moment, so that each chunk does not cost a removal."""
LONG = 1024 * 1024
"""Bytes after which the log is a long one, and is reported more slowly."""
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
        self._waiting = bytearray()
        self._is_closed = False
        self._left_out = 0
        self._ready = b""
        self._taken = 0
        self._recent = b""

    def feed(self, chunk: bytes) -> None:
        """Add output."""
        with self._lock:
            self._recent = (self._recent + chunk[-RECENT:])[-RECENT:]
            self._waiting += chunk
            if len(self._waiting) > WAITING + SLACK:
                self._leave_out(len(self._waiting) - WAITING)

    def close(self) -> None:
        """There is no more output: the unfinished line can be taken, too."""
        with self._lock:
            self._is_closed = True

    def take(self) -> str:
        """The next piece for a report, of at most PIECE bytes, cut after a line if possible; "" if none."""
        with self._lock:
            self._make_ready()
            piece = self._ready[:PIECE]
            if len(self._ready) > PIECE:
                end = piece.rfind(b"\n") + 1
                piece = piece[:end] if end else piece.decode(errors="ignore").encode()
            self._ready = self._ready[len(piece) :]
            self._taken += len(piece)
            return piece.decode()

    @property
    def has_pending(self) -> bool:
        """Whether ``take`` would return something."""
        with self._lock:
            self._make_ready()
            return bool(self._ready)

    @property
    def is_long(self) -> bool:
        """Whether so much was taken that there is no hurry with the rest."""
        return self._taken >= LONG

    def tail(self) -> str:
        """The last TAIL bytes of all output."""
        with self._lock:
            recent = self._recent
        if len(recent) < RECENT:
            return self._masked(recent)[-TAIL:].decode(errors="ignore")
        # The kept output may begin within a secret: drop its first line, or as much as a secret may have.
        line_end = recent.find(b"\n", 0, RECENT // 2)
        if line_end >= 0:
            return self._masked(recent[line_end + 1 :])[-TAIL:].decode(errors="ignore")
        return self._masked(recent)[self._overlap :][-TAIL:].decode(errors="ignore")

    def masked(self, text: str) -> str:
        """``text`` with secrets masked, and without characters that cannot be sent or stored.

        The job's own secrets are known. Others have to look like one: a submodule's address, for example.
        """
        # Not every database stores NUL; half of a surrogate pair is not text.
        known = mask(text.replace("\0", ""), self._secrets)
        return scrub(known, assignments=False).encode(errors="replace").decode()

    def _masked(self, raw: bytes | bytearray) -> bytes:
        return self.masked(raw.decode(errors="replace")).encode()

    def _make_ready(self) -> None:
        """Have something to take, if there is anything."""
        while not self._ready:
            if self._left_out:
                self._ready = f"\n[lando: {self._left_out:,} bytes of log left out here]\n".encode()
                self._left_out = 0
            elif not self._make_output_ready():
                return

    def _make_output_ready(self) -> bool:
        """Mask the next output that waits. Returns False if it may be the beginning of a secret."""
        waiting = self._waiting
        lines = waiting.rfind(b"\n", 0, PIECE) + 1
        most = LINE + self._overlap
        if not lines and len(waiting) > most:
            # The last of it may be the beginning of a secret: it is masked again with what follows.
            size = _whole(waiting, most)
            masked = self._masked(waiting[:size])
            cut = _whole(masked, max(len(masked) - self._overlap, 0))
            # Not within an address, of which two halves would not look as if they held a password.
            cut = max(masked.rfind(b" ", max(cut - WORD, 0), cut), 0) or cut
            waiting[:size] = masked[cut:]
            self._ready = masked[:cut]
            return True
        size = lines or waiting.find(b"\n") + 1 or (len(waiting) if self._is_closed else 0)
        self._ready = self._masked(waiting[:size])
        del waiting[:size]
        return size > 0

    def _leave_out(self, size: int) -> None:
        """Of the output that waits leave out the first ``size`` bytes, and the rest of their last line."""
        waiting = self._waiting
        end = waiting.find(b"\n", size - 1, size + LINE) + 1
        if end:
            self._left_out += end
            del waiting[:end]
            return
        # The rest may begin within a secret, or within a character.
        while size < len(waiting) and waiting[size] & 0xC0 == 0x80:
            size += 1
        block = _whole(waiting, size + 4 * self._overlap)
        masked = self._masked(waiting[size:block])
        start = min(self._overlap, len(masked))
        rest = masked[start:].decode(errors="ignore").encode()
        self._left_out += size + len(masked) - len(rest)
        waiting[:block] = rest


def _whole(text: bytes | bytearray, size: int) -> int:
    """The size, or up to three less, at which a character of UTF-8 begins or ``text`` ends."""
    for fewer in range(min(4, size)):
        at = size - fewer
        if at >= len(text) or text[at] & 0xC0 != 0x80:
            return min(at, len(text))
    return min(size, len(text))

"""Asks whether the cloud's services answer, while a hold may be due to them, and sees the end of an outage.

A create is a costly question: it may leave a server in ERROR, or its answer may be lost. So while everybody
is held, what a create depends on is read instead. While that fails, no job tries; when it succeeds again, the
next one tries at once, although the hold may last ten minutes more.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from lando import backoff
from lando.cloud.interface import Cloud, CloudError
from lando.daemon.log import log
from lando.daemon.pool import Pool
from lando.engine import admission
from lando.engine.obstacles import NO_START
from lando.message_limits import REASON, shorten
from lando.store.transaction import Transaction

JITTER = 0.2
"""By how much of it a wait between two checks is shortened or lengthened, at most."""
MOST_IN_A_ROW = 16
"""Checks in a row that must succeed before a job tries, at most; see ``ServicesCheck``."""
TRIES_ANYWAY = 3600.0
"""Seconds of failing checks after which a job may try nevertheless: a check could be wrong."""


class ServicesCheck:
    """Checks, in a thread of its own, so that services that hang delay no snapshot.

    There is a check every ``every`` seconds while they fail; while they succeed, twice as long after each, up
    to ``longest``. When one succeeds after one has failed, the hold is over. If creates are refused all the
    same, twice as many must succeed in a row the next time: a service that answers now and then would
    otherwise cost a create each time.

    Args:
        cloud: what is asked.
        every: seconds.
        longest: seconds.
        wake: makes the loop collect what is finished.
    """

    def __init__(self, cloud: Cloud, every: float, longest: float, wake: Callable[[], None]) -> None:
        self._cloud = cloud
        self._every = every
        self._longest = longest
        self._pool: Pool[Exception | None] = Pool(1, wake)
        self._in_progress = False
        self._next = 0.0
        self._wanted = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Nobody is held."""
        self._trouble = ""
        self._fails_until = 0.0
        self._has_failed = False
        self._successes = 0
        self._needed = 1
        self._hold_ended = False

    @property
    def trouble(self) -> str:
        """Which service does not answer, and in which words; empty: the last check succeeded."""
        return self._trouble

    @property
    def obstacle(self) -> str | None:
        """Why no job may try; None: the last check succeeded, or there was none."""
        if not self._trouble or time.monotonic() >= self._fails_until:
            return None
        return f"{NO_START}: {self._trouble}; one job tries as soon as it answers"

    def judge(self, transaction: Transaction, now: float) -> None:
        """Take the results, and end the hold if they say so.

        Args:
            transaction: the iteration's; ``start`` follows its commit.
            now: the daemon's clock.
        """
        results = self._pool.collect()
        if not (transaction.holds().doubt_services or transaction.boot_failures().at(now).are_the_sites):
            self._in_progress = self._in_progress and not results
            self._wanted = False
            self._begin_anew()
            return
        for result in results:
            self._note(result)
        self._wanted = transaction.next_queued(now) is not None
        if self._has_failed and self._successes >= self._needed:
            admission.services_answer(transaction, now)
            self._hold_ended = True

    def start(self) -> None:
        """Begin the next check, if one is due."""
        if self._hold_ended:
            self._hold_ended = self._has_failed = False
            self._needed = min(MOST_IN_A_ROW, 2 * self._needed)
        if self._wanted and not self._in_progress and time.monotonic() >= self._next:
            self._in_progress = True
            self._pool.submit(partial(_check, self._cloud))

    def _note(self, result: Exception | None) -> None:
        self._in_progress = False
        now = time.monotonic()
        if result is None:
            self._succeeded()
        elif isinstance(result, CloudError):
            self._failed(shorten(str(result), REASON), now)
        else:
            log.error("a check of the cloud's services failed; this is a bug in lando-fsm", exc_info=result)
        wait = self._every
        if not self._has_failed:
            wait = backoff.delay(self._successes, self._every, self._longest)
        asked = getattr(result, "retry_after", None) or 0.0
        self._next = now + max(asked, wait * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311

    def _succeeded(self) -> None:
        if self._trouble:
            log.info("the cloud's services answer again")
        self._trouble = ""
        self._successes += 1

    def _failed(self, words: str, now: float) -> None:
        if not self._trouble:
            log.warning("%s: %s", NO_START, words)
        if not self._trouble or now >= self._fails_until + self._every:
            self._fails_until = now + TRIES_ANYWAY
        self._trouble = words
        self._has_failed = True
        self._successes = 0


def _check(cloud: Cloud) -> Exception | None:
    """In the thread of the pool."""
    try:
        cloud.check_services()
    except Exception as error:
        return error
    return None

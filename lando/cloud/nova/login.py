"""Logs in, and does so rarely after Keystone has refused it: an account may be locked after a few refusals.

Keystone counts refused logins, without a limit in time, until one succeeds or the account is locked. Its
documentation locks after six (``lockout_failure_attempts``), and many sites after five:
https://docs.openstack.org/keystone/latest/admin/configuration.html#security-compliance-and-pci-dss

A refusal may pass, as when Keystone cannot read its directory of users, so the next login comes soon at
first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from keystoneauth1.exceptions import ClientException

from lando.cloud.nova import failures
from lando.cloud.nova.failures import Failure

WAITS = (5 * 60.0, 30 * 60.0, 4 * 3600.0)
"""Seconds from a refused login to the next one, by how many were refused in a row; the last repeats."""
REFUSALS = 4
"""So many logins may be refused within DAY, at most."""
DAY = 24 * 3600.0
"""Seconds."""


class LoginNotTried(ClientException):
    """The last login was refused, and it is too early for another."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Login:
    """The login of a keystoneauth plugin, in whose place it is called.

    keystoneauth calls it in one thread at a time, and holds the plugin's lock meanwhile.

    Args:
        log_in: the plugin's ``get_auth_ref``.
        clock: seconds that only increase.
    """

    def __init__(self, log_in: Callable[[Any], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._log_in = log_in
        self._clock = clock
        self._refused: deque[float] = deque(maxlen=REFUSALS)
        """When the last logins were refused, since one succeeded."""
        self._next = 0.0
        self._refusal: Failure | None = None
        self._of_thread = threading.local()

    @property
    def in_progress(self) -> bool:
        """Whether this thread is logging in: a call that needs a token would wait for itself."""
        return getattr(self._of_thread, "logging_in", False)

    def __call__(self, session: Any) -> Any:
        """Log in; see keystoneauth's ``get_auth_ref``.

        Raises:
            ClientException: the login failed, or a LoginNotTried.
        """
        if self._refusal is not None and self._clock() < self._next:
            raise LoginNotTried(self._refusal)
        self._of_thread.logging_in = True
        try:
            access = self._log_in(session)
        except ClientException as error:
            failed = failures.read(error)
            if failed.login_refused:
                self._note_refusal(failed)
            raise
        finally:
            self._of_thread.logging_in = False
        self._refused.clear()
        self._refusal = None
        return access

    def _note_refusal(self, failed: Failure) -> None:
        now = self._clock()
        self._refused.append(now)
        self._next = now + WAITS[min(len(self._refused), len(WAITS)) - 1]
        if len(self._refused) == REFUSALS:
            self._next = max(self._next, self._refused[0] + DAY)
        at = datetime.now(timezone.utc) + timedelta(seconds=self._next - now)
        self._refusal = replace(
            failed,
            note="refused logins can lock an account, so the next one is at "
            f"{at:%Y-%m-%dT%H:%M:%SZ}, or when lando-fsm is restarted",
        )

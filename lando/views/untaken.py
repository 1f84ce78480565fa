"""Jobs whose start_worker message is in the queue, and that no daemon has taken yet."""

from __future__ import annotations

from dataclasses import dataclass

from lando.messages import Malformed, Message, decode
from lando.states.job import DEFAULT_ATTEMPTS, Job
from lando.store.selection import Selection
from lando.store.shown import display_name, shown_labels
from lando.views.daemon_status import DaemonStatus
from lando.views.job_status import JobStatus
from lando.views.reasons import remark
from lando.workqueue.interface import Delivery


@dataclass(frozen=True)
class Untaken:
    """What is shown of such a job: thousands may wait, and a message may have a MiB."""

    job_id: str
    name: str
    sender: str | None
    labels: dict[str, str]
    attempts: int
    sent_at: float

    @property
    def _record(self) -> Job:
        at = self.sent_at
        return Job(self.job_id, attempts=self.attempts, submitted_at=at, entered_at=at, updated_at=at)

    def matches(self, selection: Selection) -> bool:
        """Whether the selection has it."""
        return selection.admits(self._record, self.sender, self.labels)

    def status(self, daemon: DaemonStatus) -> JobStatus:
        """As the commands show it."""
        why = f"in the queue, not taken yet{remark(daemon)}"
        return JobStatus(self._record, self.name, self.sender, why, self.labels)


def untaken(delivery: Delivery) -> Untaken | None:
    """The job of a message; None if it is not a valid start_worker."""
    try:
        message = decode(delivery.raw, delivery.origin)
    except Malformed:
        return None
    return of_message(message, delivery.sender) if message.type == "start_worker" else None


def of_message(message: Message, sender: str | None) -> Untaken:
    """The job of a start_worker message."""
    assert message.job is not None
    body, attempts = message.body, message.body.get("attempts")
    return Untaken(
        message.job,
        display_name(body),
        sender,
        shown_labels(body),
        attempts if isinstance(attempts, int) else DEFAULT_ATTEMPTS,
        message.sent_at,
    )

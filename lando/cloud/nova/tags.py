"""The public marks by which what lando made is found again in the cloud.

A server carries them as metadata, which a list shows, and as tags, for people who look with other tools; a
floating IP, which has no metadata, in its description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lando.cloud.interface import ServerRequest

DEPLOYMENT = "lando_deployment"
JOB_ID = "lando_job_id"
ATTEMPT = "lando_attempt"
MARK = "lando_mark"

_TAG_LENGTH = 60
_DESCRIPTION = re.compile(r"lando deployment=(\S+) mark=(\S+)")


@dataclass(frozen=True)
class Marks:
    """What a server says of itself; all None for one that is not ours."""

    mark: str | None = None
    deployment: str | None = None
    job_id: str | None = None
    attempt: int | None = None


def metadata(request: ServerRequest) -> dict[str, str]:
    """The metadata of a server to be created."""
    return {
        DEPLOYMENT: request.deployment,
        JOB_ID: request.job_id,
        ATTEMPT: str(request.attempt),
        MARK: request.mark,
    }


def tags(request: ServerRequest) -> list[str]:
    """The tags of a server to be created.

    A tag has at most 60 characters, without ``/`` and comma:
    https://docs.openstack.org/api-ref/compute/#server-tags-servers-tags
    """
    texts = (f"{key}={value}" for key, value in metadata(request).items())
    return [text for text in texts if len(text) <= _TAG_LENGTH and not set(text) & set("/,")]


def of_server(found: Mapping[str, str]) -> Marks:
    """The marks in a server's metadata, which others may have written, too."""
    attempt = found.get(ATTEMPT, "")
    return Marks(
        mark=found.get(MARK),
        deployment=found.get(DEPLOYMENT),
        job_id=found.get(JOB_ID),
        attempt=int(attempt) if attempt.isascii() and attempt.isdigit() else None,
    )


def description(mark: str, deployment: str) -> str:
    """The description of a floating IP; Neutron keeps 255 characters."""
    return f"lando deployment={deployment} mark={mark}"


def of_description(text: str) -> Marks:
    """The marks in a floating IP's description."""
    found = _DESCRIPTION.fullmatch(text)
    return Marks() if found is None else Marks(deployment=found[1], mark=found[2])

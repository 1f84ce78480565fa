"""The tags of servers and floating IPs, by which lando finds its own.

A server has them in its metadata, which Nova's list includes, and as Nova's server tags, for people who use
other tools. A floating IP, which has no metadata, has them in its description.
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

METADATA_ITEMS = 4
"""How many of them a server has."""

_TAG_LENGTH = 60
_DESCRIPTION = re.compile(r"lando deployment=(\S+) mark=(\S+)")


@dataclass(frozen=True)
class Tags:
    """All None for resources that lando did not create."""

    mark: str | None = None
    """See ``ServerRequest``."""
    deployment: str | None = None
    job_id: str | None = None
    attempt: int | None = None


def metadata(request: ServerRequest) -> dict[str, str]:
    """The metadata of a server that is to be created."""
    return {
        DEPLOYMENT: request.deployment,
        JOB_ID: request.job_id,
        ATTEMPT: str(request.attempt),
        MARK: request.mark,
    }


def server_tags(request: ServerRequest) -> list[str]:
    """Nova's server tags of a server that is to be created.

    A tag has at most 60 characters, and neither ``/`` nor a comma; those that do not fit are left out:
    https://docs.openstack.org/api-ref/compute/#server-tags-servers-tags
    """
    texts = (f"{key}={value}" for key, value in metadata(request).items())
    return [text for text in texts if len(text) <= _TAG_LENGTH and not set(text) & set("/,")]


def from_metadata(metadata: Mapping[str, str]) -> Tags:
    """The tags in a server's metadata, which may be any user's."""
    attempt = metadata.get(ATTEMPT, "")
    return Tags(
        mark=metadata.get(MARK),
        deployment=metadata.get(DEPLOYMENT),
        job_id=metadata.get(JOB_ID),
        attempt=int(attempt) if attempt.isascii() and attempt.isdigit() else None,
    )


def description(mark: str, deployment: str) -> str:
    """The description of a floating IP; Neutron stores at most 255 characters."""
    return f"lando deployment={deployment} mark={mark}"


def from_description(text: str) -> Tags:
    """The tags in a floating IP's description."""
    found = _DESCRIPTION.fullmatch(text)
    return Tags() if found is None else Tags(deployment=found[1], mark=found[2])

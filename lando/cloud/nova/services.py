"""Whether the services that every create depends on answer: one small read of each.

Each reads the database of its service, which the versions at its root do not. A service that answers anything
of its own, such as that there is no image with this id, answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from keystoneauth1.exceptions import EndpointNotFound, HttpError

from lando.cloud.nova import failures
from lando.cloud.nova.session import SMALL_READ, Session

Read = Callable[[], object]


def check(session: Session, nova: Any, image: str | None, network: str | None, volumes: bool) -> None:
    """Ask Keystone, Nova, Glance, Neutron and Cinder, until one does not answer.

    https://docs.openstack.org/api-ref/identity/v3/#validate-and-show-information-for-token and the pages of
    the other services.

    Args:
        session: sends the calls.
        nova: novaclient's client.
        image: the id of an image; None: none is known, and the list is read.
        network: the same of a network.
        volumes: whether every server has a volume.

    Raises:
        CloudError: the first that does not answer, or the login is refused.
    """
    with session.errors("asking Keystone"):
        token = session.keystoneauth.get_token()
    for service, read in _reads(session, nova, str(token), image, network, volumes):
        with session.errors(f"{service} does not answer"):
            try:
                read()
            except EndpointNotFound:
                continue  # Nova finds its services by its own configuration
            except HttpError as error:
                if not _is_an_answer(failures.read(error)):
                    raise


def _reads(
    session: Session, nova: Any, token: str, image: str | None, network: str | None, volumes: bool
) -> Iterator[tuple[str, Read]]:
    subject = {"X-Subject-Token": token}
    yield (
        "Keystone",
        lambda: session.keystone("GET", "/auth/tokens?nocatalog", headers=subject, timeout=SMALL_READ),
    )
    yield "Nova", lambda: nova.client.get("/limits", timeout=SMALL_READ)
    path = f"/images/{image}" if image else "/images?limit=1"
    yield "Glance", lambda: session.glance("GET", path, timeout=SMALL_READ)
    of_network = f"/networks/{network}?fields=id" if network else "/networks?fields=id&limit=1"
    yield "Neutron", lambda: session.neutron("GET", of_network, timeout=SMALL_READ)
    if volumes:
        yield "Cinder", lambda: session.cinder("GET", "/limits", timeout=SMALL_READ)


def _is_an_answer(failed: failures.Failure) -> bool:
    """Whether the service carried the call out, whatever it found. Glance's answers have no name."""
    return not failed.at_login and failed.status in (400, 403, 404, 405, 409, 413, 429)

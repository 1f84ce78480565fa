"""novaclient's client, and the lists that it does not read to their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlencode

from novaclient.client import Client

from lando.cloud.nova import paging
from lando.cloud.nova.session import Session


def nova_client(microversion: str, session: Session) -> Any:
    """novaclient's client, without its completion cache, which writes names to ~/.novaclient."""
    endpoint = session.endpoint("compute")
    nova = Client(
        microversion,
        session=session.keystoneauth,
        endpoint_type=endpoint["interface"],
        region_name=endpoint["region_name"],
    )
    for manager in (
        *(nova.servers, nova.flavors, nova.keypairs),
        *(nova.limits, nova.versions, nova.availability_zones),
    ):
        manager.completion_cache = lambda *_, **__: nullcontext()
    return nova


def nova_rows(
    session: Session,
    nova: Any,
    action: str,
    path: str,
    collection: str,
    key: Callable[[Mapping[str, Any]], str] = paging.id_of,
) -> list[dict[str, Any]]:
    """All rows of a list of Nova; see ``Session.rows``.

    Args:
        nova: novaclient's client, for its microversion.
    """

    def get(query: paging.Query) -> Mapping[str, Any]:
        page: Mapping[str, Any] = nova.client.get(f"{path}?{urlencode(query)}" if query else path)[1]
        return page

    return session.rows(action, get, collection, key=key)

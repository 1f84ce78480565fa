"""Looks up flavors, images and networks by the names that the configuration and job files give.

The APIs are Nova's flavors, Glance's images and Neutron's networks:
https://docs.openstack.org/api-ref/compute/#flavors, https://docs.openstack.org/api-ref/image/v2/#list-images,
https://docs.openstack.org/api-ref/network/v2/#list-networks
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar
from uuid import UUID

from lando.cloud.interface import Refused
from lando.cloud.nova.session import Session


@dataclass(frozen=True)
class ConfiguredName:
    """A name or an id, as the configuration or a job file has it."""

    name: str
    setting: str
    """Where it is set: ``flavor in the job file``."""
    origin: Literal["job", "site"] = "site"
    """See ``Refused``."""


@dataclass(frozen=True)
class Flavor:
    """The resources of a server. ``ram`` in MiB, ``disk`` in GiB."""

    id: str
    name: str
    cores: int
    ram: int
    disk: int


@dataclass(frozen=True)
class Image:
    """An image that servers boot from. ``min_disk`` in GiB, ``min_ram`` in MiB."""

    id: str
    name: str
    min_disk: int
    min_ram: int


@dataclass(frozen=True)
class Network:
    """A network for servers, or an external one, which has floating IPs."""

    id: str
    name: str
    external: bool


class _Named(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


class NameLookup:
    """Finds things by name or id, and caches what it found. Safe to use from several threads.

    Names are not unique in OpenStack. A name that several things have is refused; an id is accepted in its
    place.

    Args:
        session: for Glance and Neutron.
        nova: novaclient's client.
    """

    def __init__(self, session: Session, nova: Any) -> None:
        self._session = session
        self._nova = nova
        self._lock = threading.RLock()
        self._flavors: dict[str, Flavor] = {}
        self._images: dict[str, Image] = {}
        self._networks: dict[tuple[str, bool], Network] = {}

    def forget(self) -> None:
        """Empty the cache: something may have been replaced by another of the same name."""
        with self._lock:
            self._flavors.clear()
            self._images.clear()
            self._networks.clear()

    def flavor(self, wanted: ConfiguredName) -> Flavor:
        """A flavor.

        Raises:
            Refused: none, or several, have this name; likewise below.
            CloudError: the list could not be had; likewise below.
        """
        with self._lock:  # held during the request: other threads wait for the same answer
            if wanted.name not in self._flavors:
                flavors = self._list_flavors()
                self._flavors[wanted.name] = _only("flavor", wanted, flavors, flavors)
            return self._flavors[wanted.name]

    def image(self, wanted: ConfiguredName) -> Image:
        """An image that is active."""
        with self._lock:
            if wanted.name not in self._images:
                named = self._list_images(**_name_or_id(wanted.name))
                known = named or self._list_images(limit=200)
                self._images[wanted.name] = _only("active image", wanted, named, known)
            return self._images[wanted.name]

    def network(self, wanted: ConfiguredName) -> Network:
        """A network."""
        return self._network("network", wanted, external=False)

    def external_network(self, wanted: ConfiguredName) -> Network:
        """A network that has floating IPs."""
        return self._network("external network", wanted, external=True)

    def _network(self, kind: str, wanted: ConfiguredName, external: bool) -> Network:
        with self._lock:
            key = (wanted.name, external)
            if key not in self._networks:
                of_kind = {"router:external": True} if external else {}
                named = self._list_networks(**_name_or_id(wanted.name), **of_kind)
                known = named or self._list_networks(**of_kind)
                self._networks[key] = _only(kind, wanted, named, known)
            return self._networks[key]

    def _list_flavors(self) -> list[Flavor]:
        with self._session.errors("listing flavors"):
            rows = [flavor.to_dict() for flavor in self._nova.flavors.list()]
            return [
                Flavor(row["id"], row["name"], int(row["vcpus"]), int(row["ram"]), int(row["disk"]))
                for row in rows
            ]

    def _list_images(self, **filters: Any) -> list[Image]:
        with self._session.errors("listing images"):
            rows = self._session.glance("GET", "/images", params={"status": "active", **filters})["images"]
            return [
                Image(row["id"], row.get("name") or "", row.get("min_disk") or 0, row.get("min_ram") or 0)
                for row in rows
            ]

    def _list_networks(self, **filters: Any) -> list[Network]:
        parameters = {"fields": ["id", "name", "router:external"], **filters}
        with self._session.errors("listing networks"):
            rows = self._session.neutron("GET", "/networks", params=parameters)["networks"]
            return [Network(row["id"], row["name"], row.get("router:external") is True) for row in rows]


def _name_or_id(text: str) -> dict[str, str]:
    """The query by which Glance and Neutron list what has this name or this id."""
    try:
        return {"id": str(UUID(text))}
    except ValueError:
        return {"name": text}


def _only(kind: str, wanted: ConfiguredName, found: Iterable[T], known: Iterable[T]) -> T:
    """The one thing that has this name, or else this id.

    Args:
        kind: what it is, for the error.
        wanted: the name or id.
        found: to choose from.
        known: what the cloud has, for the error.

    Raises:
        Refused: there is none, or several.
    """
    found = list(found)
    named = [each for each in found if each.name == wanted.name]
    if not named:
        named = [each for each in found if each.id == wanted.name]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(each.id for each in named)
        raise Refused(
            f"{wanted.setting}: the cloud has {len(named)} {kind}s named {wanted.name} ({ids}); "
            "rename all but one, or write an id instead",
            wanted.origin,
        )
    raise Refused(
        f"{wanted.setting}: the cloud has no {kind} named {wanted.name}; {_hint(wanted.name, known)}",
        wanted.origin,
    )


def _hint(name: str, known: Iterable[_Named]) -> str:
    names = sorted({each.name for each in known})
    near = difflib.get_close_matches(name[:100], names[:1000], n=1)
    if near:
        return f"did you mean {near[0]}?"
    if not names:
        return "this account has access to none"
    return f"it has {', '.join(names[:10])}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")

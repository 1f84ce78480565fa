"""Names to ids: of flavors, images and networks, each looked up once and kept.

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
from lando.cloud.nova.session import Wire


@dataclass(frozen=True)
class Wanted:
    """A name as somebody wrote it."""

    name: str
    setting: str
    """Where: ``flavor in the job file``."""
    by: Literal["job", "site"] = "site"


@dataclass(frozen=True)
class Flavor:
    """What a server of this flavor takes of the project's quota. ``ram`` in MiB, ``disk`` in GiB."""

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
    """A network that servers are connected to, or that floating IPs come from (external)."""

    id: str
    name: str
    external: bool


class _Found(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Found)


class Names:
    """What names stand for in this cloud. Safe to use from several threads.

    Names need not be unique in OpenStack; one that stands for several is refused. An id is taken for a name,
    too, so that an administrator can choose.

    Args:
        wire: to ask on.
        nova: novaclient's client.
    """

    def __init__(self, wire: Wire, nova: Any) -> None:
        self._wire = wire
        self._nova = nova
        self._lock = threading.RLock()
        self._flavors: dict[str, Flavor] = {}
        self._images: dict[str, Image] = {}
        self._networks: dict[tuple[str, bool], Network] = {}

    def forget(self) -> None:
        """Look everything up anew: what a name stood for may have been replaced."""
        with self._lock:
            self._flavors.clear()
            self._images.clear()
            self._networks.clear()

    def flavor(self, wanted: Wanted) -> Flavor:
        """A flavor.

        Raises:
            Refused: there is none, or several, by this name; likewise below.
            CloudError: the cloud could not be asked; likewise below.
        """
        with self._lock:  # held while asking: other threads want the same answer
            if wanted.name not in self._flavors:
                flavors = self._list_flavors()
                self._flavors[wanted.name] = _only("flavor", wanted, flavors, flavors)
            return self._flavors[wanted.name]

    def image(self, wanted: Wanted) -> Image:
        """An image that is active."""
        with self._lock:
            if wanted.name not in self._images:
                named = self._list_images(**_name_or_id(wanted.name))
                known = named or self._list_images(limit=200)
                self._images[wanted.name] = _only("active image", wanted, named, known)
            return self._images[wanted.name]

    def network(self, wanted: Wanted) -> Network:
        """A network."""
        return self._network("network", wanted, external=False)

    def external_network(self, wanted: Wanted) -> Network:
        """A network that floating IPs come from."""
        return self._network("external network", wanted, external=True)

    def _network(self, kind: str, wanted: Wanted, external: bool) -> Network:
        with self._lock:
            key = (wanted.name, external)
            if key not in self._networks:
                of_kind = {"router:external": True} if external else {}
                named = self._list_networks(**_name_or_id(wanted.name), **of_kind)
                known = named or self._list_networks(**of_kind)
                self._networks[key] = _only(kind, wanted, named, known)
            return self._networks[key]

    def _list_flavors(self) -> list[Flavor]:
        with self._wire.errors("listing flavors"):
            rows = [flavor.to_dict() for flavor in self._nova.flavors.list()]
            return [
                Flavor(row["id"], row["name"], int(row["vcpus"]), int(row["ram"]), int(row["disk"]))
                for row in rows
            ]

    def _list_images(self, **filters: Any) -> list[Image]:
        with self._wire.errors("listing images"):
            rows = self._wire.image("GET", "/images", params={"status": "active", **filters})["images"]
            return [
                Image(row["id"], row.get("name") or "", row.get("min_disk") or 0, row.get("min_ram") or 0)
                for row in rows
            ]

    def _list_networks(self, **filters: Any) -> list[Network]:
        parameters = {"fields": ["id", "name", "router:external"], **filters}
        with self._wire.errors("listing networks"):
            rows = self._wire.network("GET", "/networks", params=parameters)["networks"]
            return [Network(row["id"], row["name"], row.get("router:external") is True) for row in rows]


def _name_or_id(name: str) -> dict[str, str]:
    """The filter by which the list of a service finds it."""
    try:
        return {"id": str(UUID(name))}
    except ValueError:
        return {"name": name}


def _only(kind: str, wanted: Wanted, found: Iterable[T], known: Iterable[T]) -> T:
    """The one thing of a name, or of an id.

    Args:
        kind: what it is, for the error.
        found: where to look.
        known: what else there is, for a hint.

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
            wanted.by,
        )
    raise Refused(
        f"{wanted.setting}: the cloud has no {kind} named {wanted.name}; {_hint(wanted, known)}", wanted.by
    )


def _hint(wanted: Wanted, known: Iterable[_Found]) -> str:
    names = sorted({each.name for each in known})
    near = difflib.get_close_matches(wanted.name, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    if not names:
        return "this account sees none at all"
    return f"it has {', '.join(names[:10])}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")

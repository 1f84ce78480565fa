"""Looks up flavors, images and networks by the names that the configuration and job files give.

The APIs are Nova's flavors, Glance's images and Neutron's networks:
https://docs.openstack.org/api-ref/compute/#flavors, https://docs.openstack.org/api-ref/image/v2/#list-images,
https://docs.openstack.org/api-ref/network/v2/#list-networks
"""

from __future__ import annotations

import difflib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar
from uuid import UUID

from keystoneauth1.exceptions import HttpError

from lando.cloud.interface import CloudError, Refused
from lando.cloud.nova.client import nova_rows
from lando.cloud.nova.session import Session

_log = logging.getLogger(__name__)


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

_Key = tuple[str, ConfiguredName]
"""The kind and the name. An error has the name's setting, so that only those of the same setting share it."""

NAMES_SECONDS = 5 * 60.0
"""Default of the time for which what a name stands for is not looked up again."""
AGAIN_SECONDS = 60.0
"""After a look that failed, what was known is used for this time before the next look."""


@dataclass(frozen=True)
class _Known:
    """What a name stood for at the last look that succeeded."""

    thing: Any
    until: float
    """By the clock: then the next look is due."""


class NameLookup:
    """Finds things by name or id, and remembers for a while what it found. Safe to use from several threads.

    Names are not unique in OpenStack. A name that several things have is refused; an id is accepted in its
    place.

    A service that hangs delays no name of another service. Of the threads that use a name that is known, it
    delays the one that looks it up again; meanwhile, and when that look fails without an answer, what is
    known is used. Nova refuses a create with an id that is gone, and then all is forgotten.
    An image that only lost its name is used for as long as Glance does not answer.

    Args:
        session: for Glance and Neutron.
        nova: novaclient's client.
        valid: seconds after which a name is looked up again: what has it may have been renamed or replaced.
        clock: seconds that only increase.
    """

    def __init__(
        self,
        session: Session,
        nova: Any,
        valid: float = NAMES_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._nova = nova
        self._valid = valid
        self._clock = clock
        self._lock = threading.Lock()
        """Held for moments, never during a request."""
        self._known: dict[_Key, _Known] = {}
        self._looks: dict[_Key, Future[Any]] = {}
        """Those in progress."""

    def forget(self) -> None:
        """Look everything up again. A look that is in progress does not count."""
        with self._lock:
            self._known.clear()
            self._looks.clear()

    def flavor(self, wanted: ConfiguredName) -> Flavor:
        """A flavor.

        Raises:
            Refused: none, or several, have this name; likewise below.
            CloudError: the list could not be had, and the flavor is not known; likewise below.
        """
        return self._remembered("flavor", wanted, self._find_flavor)

    def image(self, wanted: ConfiguredName) -> Image:
        """An image that is active."""
        return self._remembered("image", wanted, self._find_image)

    def network(self, wanted: ConfiguredName) -> Network:
        """A network."""
        return self._remembered("network", wanted, partial(self._find_network, external=False))

    def external_network(self, wanted: ConfiguredName) -> Network:
        """A network that has floating IPs."""
        return self._remembered("external network", wanted, partial(self._find_network, external=True))

    def last_image_id(self, wanted: ConfiguredName) -> str | None:
        """The id that ``image`` returned last, however long ago; None: nothing is known. Sends no call."""
        return self._last_id("image", wanted)

    def last_network_id(self, wanted: ConfiguredName) -> str | None:
        """The same of ``network``."""
        return self._last_id("network", wanted)

    def _last_id(self, kind: str, wanted: ConfiguredName) -> str | None:
        with self._lock:
            known = self._known.get((kind, wanted))
        return None if known is None else str(known.thing.id)

    def _remembered(self, kind: str, wanted: ConfiguredName, find: Callable[[ConfiguredName], T]) -> T:
        key = (kind, wanted)
        with self._lock:
            known, look = self._known.get(key), self._looks.get(key)
            if known is not None and (look is not None or self._clock() < known.until):
                thing: T = known.thing
                return thing
            is_first = look is None
            if look is None:
                look = self._looks[key] = Future()
        if is_first:
            self._look(key, look, partial(find, wanted))
        thing = look.result()  # comes, because each request has an end
        return thing

    def _look(self, key: _Key, look: Future[Any], find: Callable[[], Any]) -> None:
        """Look a name up, for all threads that wait for ``look``."""
        began = self._clock()
        answer: _Known | BaseException
        try:
            answer = _Known(find(), began + self._valid)
        except BaseException as error:
            answer = error
        with self._lock:
            is_current = self._looks.get(key) is look  # else forgotten meanwhile
            if is_current:
                del self._looks[key]
                known = self._known.pop(key, None)
                if known is not None and _is_unanswered(answer):
                    _log.warning("%s; %s as before: %s", answer, key[1].setting, known.thing.id)
                    answer = replace(known, until=self._clock() + min(self._valid, AGAIN_SECONDS))
                if isinstance(answer, _Known):
                    self._known[key] = answer
        if isinstance(answer, _Known):
            look.set_result(answer.thing)
        else:
            look.set_exception(answer)

    def _find_flavor(self, wanted: ConfiguredName) -> Flavor:
        rows = nova_rows(self._session, self._nova, "listing flavors", "/flavors/detail", "flavors")
        with self._session.errors("listing flavors"):
            flavors = [
                Flavor(row["id"], row["name"], int(row["vcpus"]), int(row["ram"]), int(row["disk"]))
                for row in rows
            ]
        return _only("flavor", wanted, flavors, flavors)

    def _find_image(self, wanted: ConfiguredName) -> Image:
        found = self._image_with_id(wanted)
        if found is not None:
            return found
        named = self._list_images(("name", wanted.name))
        return _only("active image", wanted, named, named or self._list_images())

    def _image_with_id(self, wanted: ConfiguredName) -> Image | None:
        """The image, if its id is wanted: lists lack those that are hidden, of the community, or shared.

        https://docs.openstack.org/api-ref/image/v2/#list-images, visibility and os_hidden.
        """
        image_id = _as_id(wanted.name)
        if image_id is None:
            return None
        with self._session.errors(f"asking for image {image_id}"):
            try:
                row = self._session.glance("GET", f"/images/{image_id}")
            except HttpError as error:
                if error.http_status == 404:
                    return None  # then it may be a name
                raise
            image, status = _image(row), row["status"]
        if status != "active":
            raise Refused(
                f"{wanted.setting}: the image {image.name} ({image.id}) is {status}, not active",
                wanted.origin,
            )
        return image

    def _list_images(self, *filters: tuple[str, str]) -> list[Image]:
        query = (("status", "active"), ("limit", "1000"), *filters)
        rows = self._session.glance_rows("listing images", "/images", "images", query)
        with self._session.errors("listing images"):
            return [_image(row) for row in rows]

    def _find_network(self, wanted: ConfiguredName, external: bool) -> Network:
        of_kind = (("router:external", "True"),) if external else ()
        network_id = _as_id(wanted.name)
        named = self._list_networks(("id", network_id) if network_id else ("name", wanted.name), *of_kind)
        known = named or self._list_networks(*of_kind)
        return _only("external network" if external else "network", wanted, named, known)

    def _list_networks(self, *filters: tuple[str, str]) -> list[Network]:
        fields = tuple(("fields", field) for field in ("id", "name", "router:external"))
        rows = self._session.neutron_rows("listing networks", "/networks", "networks", (*fields, *filters))
        with self._session.errors("listing networks"):
            return [Network(row["id"], row["name"], row.get("router:external") is True) for row in rows]


def _is_unanswered(answer: object) -> bool:
    """Whether a look failed, and not because what was looked for is not there."""
    return isinstance(answer, CloudError) and not isinstance(answer, Refused)


def _image(row: Mapping[str, Any]) -> Image:
    return Image(row["id"], row.get("name") or "", row.get("min_disk") or 0, row.get("min_ram") or 0)


def _as_id(text: str) -> str | None:
    """The text as an id of Glance and Neutron; None if it is none."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


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
        named = [each for each in found if each.id in (wanted.name, _as_id(wanted.name))]
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

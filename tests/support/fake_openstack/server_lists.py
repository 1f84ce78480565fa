"""Nova's lists of servers: the filters and the pages."""

from __future__ import annotations

import re
from datetime import datetime

from tests.support.fake_openstack.cloud import Cloud, Server
from tests.support.fake_openstack.create_server_schema import Microversion
from tests.support.fake_openstack.http_service import Failure, Request

PAGING = {"limit", "marker", "sort_key", "sort_dir"}
FILTERS = {"name", "status", "changes-since", "all_tenants"}
TAG_FILTERS = {"tags", "tags-any", "not-tags", "not-tags-any"}
NOT_IMPLEMENTED = {"reservation_id", "image", "flavor", "ip", "ip6", "changes-before"}
"""Filters of the real Nova that the fake answers with 501."""
ADMINISTRATORS = {
    *("user_id", "project_id", "tenant_id", "launch_index", "image_ref", "kernel_id", "ramdisk_id"),
    *("hostname", "key_name", "power_state", "vm_state", "task_state", "host", "node", "launched_at"),
    *("terminated_at", "availability_zone", "display_name", "description", "display_description"),
    *("locked_by", "uuid", "root_device_name", "config_drive", "access_ip_v4", "access_ip_v6"),
    *("auto_disk_config", "progress", "soft_deleted", "deleted", "created_at", "locked"),
    *("block_device_mapping", "services", "metadata", "system_metadata", "info_cache"),
    *("security_groups", "pci_devices"),
}
"""Filters of administrators, ignored for others."""

STATUSES = {"ACTIVE", "BUILD", "ERROR", "SHUTOFF", "DELETED", "SOFT_DELETED"}


def check_query(request: Request, microversion: Microversion) -> None:
    """Raises: Failure, if a filter is unknown or its value invalid."""
    limit = request.one("limit")
    if limit is not None and not limit.isdigit():
        raise _invalid("limit", limit, "does not match '^[0-9]*$'")
    _check_name_filter(request.one("name") or "")
    known = PAGING | FILTERS | NOT_IMPLEMENTED | ADMINISTRATORS
    if microversion >= (2, 26):
        known = known | TAG_FILTERS
    unknown = [name for name in request.query if name not in known]
    if unknown and microversion >= (2, 75):
        names = ", ".join(repr(name) for name in sorted(unknown))
        do = "does" if len(unknown) == 1 else "do"
        raise Failure(400, f"{names} {do} not match any of the regexes: '^_'")
    not_implemented = request.query.keys() & (NOT_IMPLEMENTED | {"sort_key", "sort_dir"})
    if not_implemented:
        raise Failure(501, f"the fake has no such filter: {', '.join(not_implemented)}")


def _check_name_filter(name: str) -> None:
    try:
        re.compile(name)
    except re.error:
        raise _invalid("name", name, "is not a 'regex'") from None


def _invalid(name: str, value: str, complaint: str) -> Failure:
    return Failure(400, f"Invalid input for query parameters {name}. Value: {value}. {value!r} {complaint}")


def select(cloud: Cloud, request: Request, microversion: Microversion) -> list[Server]:
    """The servers that match the filters, from the marker on, the newest first.

    Raises:
        Failure: 400.
    """
    now = cloud.now()
    statuses = {status.upper() for status in request.query.get("status", [])}
    if statuses and not statuses & STATUSES and microversion >= (2, 38):
        raise Failure(400, "Invalid status value")
    name = re.compile(request.one("name") or "", re.IGNORECASE)  # as MySQL compares
    chosen = [
        server
        for server in _all(cloud, request.one("changes-since"))
        if server.listed_from <= now
        and not server.cell_is_down
        and (not statuses or server.status in statuses)
        and name.search(server.name)
        and (microversion < (2, 26) or _has_tags(server, request))
    ]
    marker = request.one("marker")
    if marker is not None:
        chosen = _after(cloud, marker, chosen)
    return sorted(chosen, key=_place, reverse=True)


def _all(cloud: Cloud, since: str | None) -> list[Server]:
    """All servers, or those that changed since a time, including deleted ones."""
    if since is None:
        return [server for server in cloud.servers.values() if server.vm_state != "soft-delete"]
    moment = _moment(since)
    ever = [*cloud.servers.values(), *cloud.ended.values()]
    return [server for server in ever if server.updated >= moment]


def _after(cloud: Cloud, marker: str, servers: list[Server]) -> list[Server]:
    last = cloud.servers.get(marker)
    if last is None or last.cell_is_down:
        raise Failure(400, f"marker [{marker}] not found")
    return [server for server in servers if _place(server) < _place(last)]


def _place(server: Server) -> tuple[float, str]:
    """The sort key of lists, which are in descending order."""
    return server.created, server.id


def _moment(since: str) -> float:
    try:
        return datetime.fromisoformat(since.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise _invalid("changes-since", since, "is not a 'date-time'") from None


def _has_tags(server: Server, request: Request) -> bool:
    def given(name: str) -> set[str]:
        value = request.one(name)
        return set(value.split(",")) if value is not None else set()

    tags = set(server.tags)
    return (
        given("tags") <= tags
        and (not given("tags-any") or bool(given("tags-any") & tags))
        and (not given("not-tags") or not given("not-tags") <= tags)
        and not given("not-tags-any") & tags
    )

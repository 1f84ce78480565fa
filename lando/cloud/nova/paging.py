"""Reads a list that a service answers in pages, to its end.

Nova and Neutron put the link to the next page into ``COLLECTION_links``, Glance into ``next``:
https://docs.openstack.org/api-guide/compute/paginated_collections.html,
https://docs.openstack.org/api-ref/network/v2/#pagination,
https://docs.openstack.org/api-ref/image/v2/#list-images. A service may cut a list although no limit was asked
for (Nova's ``api.max_limit``, Neutron's ``pagination_max_limit``, Glance's ``api_limit_max``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

MAX_PAGES = 1000
"""A list of more pages is refused: with Nova's usual pages, a million servers."""

Query = tuple[tuple[str, str], ...]
"""The parameters of a request, in order. One that has several values occurs several times."""


class EndlessList(Exception):
    """The pages of a list do not lead to its end."""


def id_of(row: Mapping[str, Any]) -> str:
    """What distinguishes the rows of most lists."""
    return str(row["id"])


def all_rows(
    get: Callable[[Query], Mapping[str, Any]],
    collection: str,
    query: Query = (),
    key: Callable[[Mapping[str, Any]], str] = id_of,
) -> list[dict[str, Any]]:
    """All rows of a list. A row that several pages have, because the list changed meanwhile, is there once.

    Only the query of a link is followed: its address is the service's own, which a proxy may hide.

    Args:
        get: requests one page.
        collection: the key of a page's rows.
        query: of the first page.
        key: what distinguishes rows.

    Raises:
        EndlessList: the next page is one that was already read, a page has only rows of earlier ones, there
            are more than MAX_PAGES, or a link is no address.
    """
    rows: dict[str, dict[str, Any]] = {}
    asked: set[Query] = set()
    following: Query | None = query
    while following is not None:
        asked.add(following)
        page = get(following)
        found = {key(row): row for row in page[collection]}
        repeats = bool(found) and found.keys() <= rows.keys()
        rows.update(found)
        following = _query_of_next(page, collection)
        if following is None:
            break
        if repeats or following in asked:
            raise EndlessList(
                f"the list has no end: page {len(asked)} repeats an earlier one; something in front of the "
                "service may drop the query (marker) of requests"
            )
        if len(asked) == MAX_PAGES:
            raise EndlessList(f"the list has more than {MAX_PAGES:,} pages")
    return list(rows.values())


def _query_of_next(page: Mapping[str, Any], collection: str) -> Query | None:
    link = page.get("next")
    for each in page.get(f"{collection}_links") or ():
        if each.get("rel") == "next":
            link = each["href"]
    if not link:
        return None
    try:
        return tuple(parse_qsl(urlsplit(link).query, keep_blank_values=True))
    except ValueError as error:
        raise EndlessList(f"the link to the list's next page is no address: {error}") from None

"""Lists in pages are read to their end, and only as long as they lead there."""

from __future__ import annotations

from typing import Any

import pytest

from lando.cloud.nova import paging
from lando.cloud.nova.paging import EndlessList, Query, all_rows

NOVA = {
    "a_links": [{"rel": "previous", "href": "http://x/"}, {"rel": "next", "href": "http://x/?marker=2&f=1"}]
}
GLANCE = {"next": "/v2/a?marker=2&f=1"}


class Pages:
    """Answers these pages in order, and keeps the queries."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = list(pages)
        self.asked: list[Query] = []

    def __call__(self, query: Query) -> dict[str, Any]:
        self.asked.append(query)
        return self.pages.pop(0)


def page(*ids: int, **more: Any) -> dict[str, Any]:
    return {"a": [{"id": str(each)} for each in ids], **more}


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_a_link_that_is_no_address() -> None:
    with pytest.raises(EndlessList, match="the link to the list's next page is no address: Invalid IPv6 URL"):
        all_rows(Pages(page(1, next="http://[x/?marker=1")), "a")


@pytest.mark.parametrize("link", [NOVA, GLANCE])
def test_the_link_of_a_page_is_followed_by_its_query(link: dict[str, Any]) -> None:
    pages = Pages(page(1, 2, **link), page(3))
    assert ids(all_rows(pages, "a", (("f", "1"),))) == ["1", "2", "3"]
    assert pages.asked == [(("f", "1"),), (("marker", "2"), ("f", "1"))]


def test_a_row_of_two_pages_is_there_once() -> None:
    assert ids(all_rows(Pages(page(1, 2, **NOVA), page(2, 3)), "a")) == ["1", "2", "3"]


def test_an_empty_page_with_another_marker_is_not_the_end() -> None:
    pages = Pages(page(1, **NOVA), page(next="?marker=9"), page(3))
    assert ids(all_rows(pages, "a")) == ["1", "3"]


def test_a_last_page_that_repeats_rows_is_the_end() -> None:
    assert ids(all_rows(Pages(page(1, 2, **NOVA), page(2)), "a")) == ["1", "2"]


@pytest.mark.parametrize("second", [page(1, 2, next="?marker=7"), page(3, **NOVA), page(**NOVA)])
def test_a_list_that_does_not_advance_is_an_error(second: dict[str, Any]) -> None:
    pages = Pages(page(1, 2, **NOVA), second, page(8))
    with pytest.raises(EndlessList, match="page 2 repeats"):
        all_rows(pages, "a")
    assert len(pages.asked) == 2


def test_a_list_that_always_has_another_page_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_PAGES", 5)
    asked: list[Query] = []

    def more(query: Query) -> dict[str, Any]:
        asked.append(query)
        return page(len(asked), next=f"?marker={len(asked)}")

    with pytest.raises(EndlessList, match="more than 5 pages"):
        all_rows(more, "a")
    assert len(asked) == 5

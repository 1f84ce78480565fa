"""What the daemon believes others to take of the quota, while its own servers come and go."""

from __future__ import annotations

from lando.cloud import Quota, Server, Share, Size
from lando.job import CreateRequest, Job
from lando.observer import Sighting
from lando.outlook import Outlook

ONE = Size(1, 1, 512)


def job(name: str, server: str | None = None) -> Job:
    return Job(name, state="booting", server_id=server, requests=(CreateRequest(f"mark {name}", "token"),))


def sighting(used: int, *servers: str, counted: bool = True) -> Sighting:
    quota = Quota(Share(used, 5), Share(used, None), Share(512 * used, None))
    return Sighting(
        tuple(Server(name, name, "BUILD", size=ONE, counted=counted) for name in servers),
        quota=quota,
        sizes={None: ONE},
    )


def others(outlook: Outlook) -> int:
    assert outlook.room is not None
    taken = outlook.room.others
    assert taken == Size(taken.servers, taken.servers, 512 * taken.servers)
    return taken.servers


def test_what_is_created_while_the_cloud_is_looked_at_is_not_taken_for_others() -> None:
    outlook = Outlook(has_quota=True, lasts=60)
    outlook.take(sighting(1, "theirs"), [])
    assert others(outlook) == 1
    outlook.take(sighting(3, "theirs"), [job("a"), job("b", "created")])
    assert others(outlook) == 1
    outlook.take(sighting(3, "theirs", "created", "a"), [job("a", "a"), job("b", "created")])
    assert others(outlook) == 1


def test_others_do_not_seem_to_take_less_while_the_cloud_does_not_count_what_it_lists() -> None:
    outlook = Outlook(has_quota=True, lasts=60)
    outlook.take(sighting(2), [])
    for _ in range(3):
        outlook.take(sighting(2, "a", "b", counted=False), [job("a", "a"), job("b", "b")])
        assert others(outlook) == 2
    outlook.take(sighting(4, "a", "b"), [job("a", "a"), job("b", "b")])
    assert others(outlook) == 2


def test_more_is_seen_at_once_and_less_when_it_is_seen_twice() -> None:
    outlook = Outlook(has_quota=True, lasts=60)
    outlook.take(sighting(1, "ours"), [job("a", "ours")])
    assert others(outlook) == 0
    outlook.take(sighting(4, "ours"), [job("a", "ours"), job("b")])
    assert others(outlook) == 2, "one of them may be that of b"
    for expected in (2, 0):
        outlook.take(sighting(1, "ours"), [job("a", "ours")])
        assert others(outlook) == expected


def test_at_first_all_that_is_not_known_to_be_ours_is_taken_for_others() -> None:
    outlook = Outlook(has_quota=True, lasts=60)
    outlook.take(sighting(2), [job("a"), job("b")])
    assert others(outlook) == 2
    for expected in (2, 0):
        outlook.take(sighting(2, "a", "b"), [job("a", "a"), job("b", "b")])
        assert others(outlook) == expected

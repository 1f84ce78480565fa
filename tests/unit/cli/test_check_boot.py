"""What ``check --boot`` shows of what its worker has printed."""

from __future__ import annotations

from lando.cli.check_boot import _protection
from lando.states.job import Job


def test_what_the_worker_protects_is_a_line_of_its_own() -> None:
    log = (
        "lando: protection: only root can reach the metadata service (nft)\n"
        "lando: cloning /nowhere\n"
        "lando: protection: warning: the account 'lando' can become root through sudo\n"
    )
    shown = [(each.what, each.verdict, each.message) for each in _protection(Job("j", log_tail=log))]
    assert shown == [
        ("protection", "ok", "only root can reach the metadata service (nft)"),
        ("protection", "warning", "the account 'lando' can become root through sudo"),
    ]
    assert not list(_protection(Job("j", log_tail="lando: cloning /nowhere\n")))

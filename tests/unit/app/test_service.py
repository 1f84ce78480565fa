"""What a daemon sees to before it starts."""

from __future__ import annotations

from unittest.mock import Mock

from lando.app.service import Service
from lando.store.facts import PROJECT_FACT
from lando.store.store import Store
from tests.support.engine_rules import Rules


def calls_of_the_driver(store: Store) -> list[object]:
    app = Mock()
    app.config.cloud = "openstack"
    Service._bind_project(Mock(_app=app, _store=store))
    return list(app.openstack.stay_in.call_args_list)


def test_while_jobs_have_servers_only_an_account_of_their_project_is_used(store: Store) -> None:
    assert calls_of_the_driver(store) == [], "no project is known yet"
    with store.transaction() as transaction:
        transaction.set_fact(PROJECT_FACT, "production")
    assert calls_of_the_driver(store) == [], "no job has a server"
    Rules(store.transaction).boot("a")
    [call] = calls_of_the_driver(store)
    assert call == (("production",),)

from __future__ import annotations

import pytest


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """On both databases; PostgreSQL where there is one."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url

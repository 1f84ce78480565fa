from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.localsite import LocalSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LocalSite]:
    here = LocalSite(tmp_path)
    yield here
    here.close()

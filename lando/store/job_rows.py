"""A job's record from a row of ``jobs``."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.engine import Row

from lando.states.job import CreateRequest, Job
from lando.store.pending import JOB_FIELDS


def to_job(row: Row[Any]) -> Job:
    """The record of a row that has ``JOB_COLUMNS``, or some of them: the others are as in a new job."""
    values = dict(row._mapping)
    values["requests"] = tuple(CreateRequest(**request) for request in json.loads(values["requests"]))
    return Job(**{name: values[name] for name in JOB_FIELDS if name in values})

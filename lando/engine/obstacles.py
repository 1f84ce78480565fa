"""How what keeps jobs from being started begins: the rules say it, and ``status`` looks for it."""

from __future__ import annotations

NO_START = "no job is started at present"
"""Of a cloud that does not answer."""
WAITS_FOR_QUOTA = "waits for the project's quota"
"""Of a job that is larger than what is left."""

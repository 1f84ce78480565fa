"""The CWL output object that a runner prints, made fit for a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lando.message_limits import OUTPUTS_BYTES, OUTPUTS_VALUES, excess
from lando_worker.result import Result

KEPT_AS = "lando-outputs.json"
"""File in the outputs directory for a larger one."""


def succeeded(printed: str, outdir: Path) -> Result:
    """The result of a run that exited with status 0.

    Args:
        printed: the runner's standard output.
        outdir: the directory of the outputs.
    """
    try:
        outputs, remark = _read(printed, outdir)
    except (ValueError, RecursionError) as error:
        return Result("succeeded", f"the runner printed no CWL output object: {error}", exit_code=0)
    return Result("succeeded", remark, exit_code=0, outputs=outputs)


def with_partial(failure: Result, printed: str, outdir: Path) -> Result:
    """The result of a run that failed, with the outputs that were made before, if the runner printed them.

    Args:
        failure: how it failed.
        printed: the runner's standard output; may be no output object.
        outdir: the directory of the outputs.
    """
    try:
        outputs, remark = _read(printed, outdir)
    except (ValueError, RecursionError):
        return failure
    return replace(failure, outputs=outputs or None, reason="; ".join(filter(None, (failure.reason, remark))))


def _read(printed: str, outdir: Path) -> tuple[dict[str, Any] | None, str]:
    """The output object, or None and where it is kept if it cannot be reported.

    Raises:
        ValueError, RecursionError: it is none.
    """
    given = json.loads(printed, parse_constant=lambda name: None)
    if not isinstance(given, dict):
        raise ValueError("it is not an object")
    outputs, why = _fit(given)
    if why and _drop_listings(given):
        outputs, _ = _fit(given)
    if outputs is not None:
        return outputs, ""
    _keep(printed, outdir / KEPT_AS)
    return None, f"the output object {why}; it is in {outdir / KEPT_AS}"


def _fit(given: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The object as it can be reported; None and why not if it is too large."""
    if wrong := excess(given, OUTPUTS_VALUES):
        return None, wrong
    outputs: dict[str, Any] = _clean(given)
    size = len(json.dumps(outputs, ensure_ascii=False).encode())
    return (outputs, "") if size <= OUTPUTS_BYTES else (None, f"is too large to report ({size:,} bytes)")


def _drop_listings(given: Any) -> bool:
    """Leave out what directories contain, which their location tells; whether there was any of it."""
    dropped, found = False, [given]
    while found:
        value = found.pop()
        if isinstance(value, dict):
            if value.get("class") == "Directory" and "location" in value:
                dropped |= value.pop("listing", None) is not None
            found += value.values()
        elif isinstance(value, list):
            found += value
    return dropped


def _keep(printed: str, file: Path) -> None:
    """Write it to a new file: an output of this name may be a link to a file elsewhere, or a named pipe."""
    file.unlink(missing_ok=True)
    with file.open("x", encoding="utf-8", errors="replace") as stream:
        stream.write(printed)


def without_secrets(value: Any, masked: Callable[[str], str]) -> Any:
    """``value`` with the secrets in its texts masked; not in what names a file, which would not be found.

    Args:
        value: an output object, or a part of one.
        masked: masks a text.
    """
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [without_secrets(item, masked) for item in value]
    if not isinstance(value, Mapping):
        return value
    is_file = value.get("class") in ("File", "Directory")
    kept = {key for key, item in value.items() if is_file and isinstance(item, str) and key != "contents"}
    return {key: item if key in kept else without_secrets(item, masked) for key, item in value.items()}


def _clean(value: Any) -> Any:
    """Without what JSON in UTF-8 cannot hold: file names may be any bytes."""
    if isinstance(value, str):
        return value.replace("\0", "").encode(errors="replace").decode()
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    return value

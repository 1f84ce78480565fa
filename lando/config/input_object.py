"""What a job's input object may refer to, so far as that can be seen without its files."""

from __future__ import annotations

import re

from lando.config.yaml_document import Document, KeyPath

_HOME = re.compile(r"(?:file://)?~(?:/|\Z)")


def check(document: Document, path: KeyPath, value: object) -> None:
    """Note the locations of Files and Directories in ``value``, at ``path``, that begin with ``~/``.

    Nobody expands them: cwltool looks for a directory that is named ~, in the directory given by ``cd``.
    """
    if isinstance(value, list):
        for index, item in enumerate(value):
            check(document, (*path, index), item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        names_file = key in ("location", "path") and value.get("class") in ("File", "Directory")
        if names_file and isinstance(item, str) and _HOME.match(item):
            document.complain(
                (*path, key),
                "~ is not replaced by a home directory; write the whole path on the machine where the"
                " workflow runs, or ./~/… for a directory of the clone that is named ~",
            )
        check(document, (*path, key), item)

"""YAML that people write: read strictly, with line numbers, and all mistakes reported at once.

Scalars are those of YAML 1.2, as CWL runners read them (``yaml_scalars``): ``on`` and ``2020-01-01`` are
text. An error never quotes a value, which may be a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, cast

import yaml

from lando.config import yaml_scalars
from lando.errors import UsageError
from lando.message_limits import DEPTH
from lando.yaml_json import WrittenFloat

MAX_SIZE = 4 * 1024 * 1024
"""Bytes of a file; characters of what its aliases expand to."""
MAX_DEPTH = DEPTH

KeyPath = tuple[str | int, ...]
"""The place of a value in a document: ("work_queue", "port")."""

_TAG = "tag:yaml.org,2002:"
_HINTS = {
    "mapping values are not allowed": 'text that holds ": " needs quotes, and keys of one level line up',
    "cannot start any token": "indent with spaces, not tabs; text that begins with @, ` or % needs quotes",
    "violates indentation": "indent with spaces, not tabs",
    "undefined alias": "text that begins with * needs quotes",
    "another document": "keep one document, without a second ---",
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes only: ``_Builder`` makes their values."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own way to say it)


for _name, (_pattern, _first) in yaml_scalars.PATTERNS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"\Z"), [""])


@dataclass
class Document:
    """Plain JSON values, the line of each key, and the mistakes found so far.

    ``lines`` has the line of every key; ``blocks`` the first line of every literal block (``key: |``).
    """

    source: str
    value: Any
    is_file: bool = True
    """False for a value that was not read from YAML: the daemon's, which helps nobody to spell."""
    lines: dict[KeyPath, int] = field(default_factory=dict)
    blocks: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    _wrong: set[KeyPath] = field(default_factory=set)

    def where(self, path: KeyPath) -> tuple[int, str]:
        """The line of a key, or of the nearest enclosing key, and ``FILE:LINE`` (no line if unknown)."""
        while path and path not in self.lines:
            path = path[:-1]
        line = self.lines.get(path, 0)
        return line, f"{self.source}:{line}" if line else self.source

    def complain(self, path: KeyPath, what: str) -> None:
        """Note a mistake at ``path``, unless one is noted there already; ``check`` raises them."""
        if path in self._wrong:
            return
        self._wrong.add(path)
        line, place = self.where(path)
        self.problems.append((line, f"{place}: {_dotted(path)}: {what}" if path else f"{place}: {what}"))

    def check(self) -> None:
        """Raise UsageError with every mistake, one per line, in the order of the file, if there is any."""
        if self.problems:
            from lando.credentials import scrub  # noqa: PLC0415 - for mistakes only

            ordered = sorted(self.problems, key=lambda problem: problem[0])
            # A key is quoted, and may be an address: "git_clone https://…", without its colon.
            raise UsageError("\n".join(dict.fromkeys(scrub(text) for _, text in ordered)))

    def embedded(self, path: KeyPath, text: str) -> Any:
        """Parse the text at ``path`` as YAML. Returns None if it is not YAML."""
        line = self.blocks.get(path) or self.where(path)[0] or 1
        try:
            inner = parse(text, self.source, line, path)
        except UsageError as error:
            self.problems.append((line, str(error)))
            return None
        self.problems += inner.problems
        return inner.value


def load(path: Path) -> Document:
    """Read one YAML file of UTF-8 text.

    Raises:
        UsageError: it cannot be read, is larger than MAX_SIZE, or is not YAML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a directory; name the file in it") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(raw) > MAX_SIZE:
        raise UsageError(f"{path}: is larger than {MAX_SIZE} bytes; put data beside it, not into it")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: is not UTF-8 text; save it as UTF-8") from None
    return parse(text, str(path))


def parse(text: str, source: str, first_line: int = 1, within: KeyPath = ()) -> Document:
    """Read one YAML document.

    Args:
        text: the document.
        source: its name in errors, such as the file's.
        first_line: the line of ``source`` on which the text begins.
        within: the key of ``source`` whose value the text is.

    Returns:
        A document whose mistakes, such as duplicate keys, are noted but not raised yet.

    Raises:
        UsageError: it is not YAML, refers to itself, or its aliases expand beyond MAX_SIZE.
    """
    document = Document(source, None, lines={within: first_line})
    text = _join_surrogates(text) if text.lstrip().startswith("{") else text
    _refuse_control_characters(text, document, within)
    try:
        _check_events(text)
        node = yaml.compose(text, _Loader)
        if node is not None:
            _measure(node, {})
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        last = text.rstrip().count("\n")  # libyaml finds what is not closed on the line after
        document.lines[within] = first_line + (min(mark.line, last) if mark else 0)
        document.complain(within, _explain(error))
        document.check()
    else:
        value = None if node is None else _Builder(document, first_line).build(node, within)
        document.value = _plain(document, within, value)
    return document


def given(value: object, source: str) -> Document:
    """A document that is not from a file: the same checks, without lines."""
    document = Document(source, None, is_file=False)
    document.value = value if _is_plain(value, MAX_DEPTH) else _plain(document, (), value)
    return document


def _is_plain(value: object, depth: int) -> bool:
    """Whether ``_plain`` would certainly not change it; fast, since every message is checked."""
    type_ = value.__class__
    if type_ is str:
        return cast(str, value).isprintable()
    if type_ is dict:
        return depth > 0 and all(
            key.__class__ is str and key.isprintable() and _is_plain(item, depth - 1)
            for key, item in cast("dict[Any, object]", value).items()
        )
    if type_ is list:
        return depth > 0 and all(_is_plain(item, depth - 1) for item in cast("list[object]", value))
    return value is None or type_ is int or type_ is bool


def _join_surrogates(text: str) -> str:
    """JSON writes characters beyond U+FFFF as two escapes (RFC 8259, section 7), YAML as one."""
    pair = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
    return pair.sub(_join_pair, text)


def _join_pair(match: re.Match[str]) -> str:
    high, low = int(match.group(2), 16), int(match.group(3), 16)
    return f"{match.group(1)}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"


class _Refused(yaml.MarkedYAMLError):
    """Well-formed YAML that is not taken."""


def _refuse_control_characters(text: str, document: Document, within: KeyPath) -> None:
    match = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if match:
        document.lines[within] += text.count("\n", 0, match.start())
        document.complain(within, f"holds {_character(match.group())}, which no YAML file may")
        document.check()


def _check_events(text: str) -> None:
    """Refuse deep nesting before the nodes are composed, which libyaml does recursively; and YAML 1.1, in
    which scalars mean something else."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.DocumentStartEvent) and event.version == (1, 1):
            raise _refused("declares YAML 1.1, but is read as 1.2; remove the line with %YAML", event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _refused(f"is nested more than {MAX_DEPTH} levels deep", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _measure(node: yaml.Node, known: dict[yaml.Node, tuple[int, int] | None]) -> tuple[int, int]:
    """Characters and levels of a node with its aliases expanded."""
    if node in known:
        measured = known[node]
        if measured is None:
            raise _refused("refers to itself", node)
        return measured
    known[node] = None
    size, depth = (len(node.value) + 4, 0) if isinstance(node, yaml.ScalarNode) else (4, 0)
    for child in _children(node):
        child_size, child_depth = _measure(child, known)
        size, depth = size + child_size, max(depth, child_depth + 1)
    if depth > MAX_DEPTH:
        raise _refused(f"is nested more than {MAX_DEPTH} levels deep by its aliases", node)
    if size > MAX_SIZE:
        raise _refused(f"is larger than {MAX_SIZE} characters once its aliases are expanded", node)
    known[node] = size, depth
    return size, depth


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return (part for pair in node.value for part in pair)
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _refused(what: str, at: Any) -> _Refused:
    """``at``: the node or event that is not taken."""
    return _Refused(problem=what, problem_mark=at.start_mark)


def _explain(error: yaml.MarkedYAMLError) -> str:
    # The text of an alias or a tag may be a part of a password.
    problem = re.sub(r" ['\"][^'\"]*\w[^'\"]*['\"]", "", error.problem or "unreadable")
    if isinstance(error, _Refused):
        return problem
    hint = next((hint for known, hint in _HINTS.items() if known in problem), None)
    what = f"{error.context}, {problem}" if error.context else problem
    return f"is not YAML: {what}" + (f"; {hint}" if hint else "")


@dataclass
class _Builder:
    """Makes plain values of nodes, and notes the line of every key."""

    document: Document
    first_line: int

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._refuse_tag(path)
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + self.first_line
            if _is_merge(key_node):
                for key, value in self._merge(value_node, path).items():
                    merged.setdefault(key, value)
                continue
            own_key = self._key(key_node, path, line)
            if own_key is None:
                continue
            at = (*path, own_key)
            if own_key in own:
                first = self.document.lines[at]
                self._complain_at(line, at, f"given twice, first on line {first}; keep one")
                continue
            self.document.lines[at] = line
            if getattr(value_node, "style", None) == "|":
                self.document.blocks[at] = value_node.start_mark.line + self.first_line + 1
            own[own_key] = self.build(value_node, at)
        return {**merged, **own}

    def _key(self, node: yaml.Node, path: KeyPath, line: int) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str":
            return str(node.value)
        self._complain_at(line, path, "a key must be text; put it in quotes")
        return None

    def _complain_at(self, line: int, path: KeyPath, what: str) -> None:
        name = f"{_dotted(path)}: " if path else ""
        self.document.problems.append((line, f"{self.document.source}:{line}: {name}{what}"))

    def _merge(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """The keys of ``<<: *anchor``; of several mappings, the first wins
        (https://yaml.org/type/merge.html)."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            value = self.build(source, path)
            if not isinstance(value, dict):
                self.document.complain(path, "<< takes a mapping, or a list of them")
                return {}
            for key, item in value.items():
                merged.setdefault(key, item)
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        try:
            if kind in ("str", "timestamp"):
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() == "true"
            if kind == "int":
                return yaml_scalars.integer(text)
            if kind == "float":
                return yaml_scalars.floating(text)
        except ValueError:
            self.document.complain(path, "is not a number that can be read; put it in quotes if it is text")
            return None
        self._refuse_tag(path)
        return None

    def _refuse_tag(self, path: KeyPath) -> None:
        self.document.complain(path, "has a tag (!…), which is not known here; text needs quotes")


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "<<" and not node.style


def _plain(document: Document, path: KeyPath, value: object) -> Any:
    """``value`` as JSON values (RFC 8259); what JSON cannot express is noted as a mistake."""
    if isinstance(value, (Mapping, list, tuple)) and len(path) >= MAX_DEPTH:
        document.complain(path[:1], f"is nested more than {MAX_DEPTH} levels deep")
        return None
    if isinstance(value, Mapping):
        return {key: _plain(document, (*path, key), item) for key, item in _items(document, path, value)}
    if isinstance(value, (list, tuple)):
        return [_plain(document, (*path, index), item) for index, item in enumerate(value)]
    if isinstance(value, date):
        return value.isoformat()
    odd = _not_json(value)
    if odd:
        document.complain(path, odd)
    return None if odd else value


def _items(document: Document, path: KeyPath, value: Mapping[Any, object]) -> Iterable[tuple[str, object]]:
    for key, item in value.items():
        odd = _not_json(key) if isinstance(key, str) else "a key must be text; put it in quotes"
        if odd:
            document.complain(path, odd)
        else:
            yield key, item


def _not_json(value: object) -> str | None:
    if isinstance(value, str):
        odd = re.search("[\0\ud800-\udfff]", value)
        return f"holds {_character(odd.group())}; remove it" if odd else None
    if isinstance(value, WrittenFloat) and not math.isfinite(value):
        return "is out of range: the largest number is about 1.8e308"
    if isinstance(value, float) and not math.isfinite(value):
        return "is infinite or not a number, which JSON cannot say"
    if value is None or isinstance(value, (bool, int, float)):
        return None
    return f"is a {type(value).__name__}, which JSON cannot say"


def _character(character: str) -> str:
    return "a NUL character" if character == "\0" else f"the character U+{ord(character):04X}"


def _dotted(path: KeyPath) -> str:
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in path)
    return dotted.removeprefix(".")


def _shown(key: str) -> str:
    shown = key if key.isprintable() and key else ascii(key)
    return shown if len(shown) <= 60 else shown[:57] + "..."

"""An operator's YAML, read in one pass: its plain values, and on which line each of them stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from yaml.events import AliasEvent, Event, MappingStartEvent, ScalarEvent, SequenceStartEvent
from yaml.reader import ReaderError

from agent_worker.config.problems import ConfigErrors
from agent_worker.errors import ConfigError

MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_VALUES = 200_000
"""Values a file may hold, each counted as often as an alias repeats it."""

Location = tuple[int | str, ...]

# Without its C library PyYAML is slower and reads the same.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"


def _int(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits[:2] in ("0o", "0x") else int(digits)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan").replace("_", ""))


# What a plain word is in YAML 1.2; `yes`, `on`, `12:30` and dates are text.
_PLAIN: tuple[tuple[str, re.Pattern[str], Callable[[str], Any]], ...] = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), lambda text: None),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), lambda text: text.lower() == "true"),
    ("int", re.compile(r"(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), _int),
    (
        "float",
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        _float,
    ),
)
_MAY_BE_OTHER = frozenset("~nNtTfF-+.0123456789")


@dataclass(frozen=True)
class FileKind:
    """What a file is for, in the words its mistakes are told with.

    Attributes:
        code: how the codes of its mistakes begin: `agent` gives `agent_key_unknown`.
        holds: what is in it, after "holds no".
        start: how such a file begins.
    """

    code: str
    holds: str
    start: str


class YamlTree(Mapping[str, Any]):
    """The values of one file: dicts, lists, text, numbers, booleans, None.

    Attributes:
        file: path as the operator wrote it.
        kind: what the file is for.
        content: the outermost group of keys, as plain values.
    """

    def __init__(self, file: str, kind: FileKind, content: dict[str, Any], text: str) -> None:
        self.file = file
        self.kind = kind
        self.content = content
        self._text = text

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)

    def line_of(self, location: Location) -> int | None:
        """Return the 1-based line of the deepest part of this location that the file has."""
        place = self.as_written(location)
        return next((self._lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._lines), 1)

    @cached_property
    def _lines(self) -> dict[Location, int]:
        # read again where something is wrong, which is seldom; a catalog of many files keeps none
        lines: dict[Location, int] = {}
        _Reading(self.file, self.kind, lines).of(self._text)
        return lines

    def as_written(self, location: Location) -> Location:
        """Return the location with keys as the file spells them, and without what stands in no file."""
        kept: list[int | str] = []
        node: Any = self.content
        for index, part in enumerate(location):
            last = index == len(location) - 1
            if isinstance(node, dict):
                key = _spelled(node, str(part))
                if key is not None:
                    kept.append(key)
                    node = node[key]
                elif last and part != "[key]":
                    kept.append(part)
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                kept.append(part)
                node = node[part]
        return tuple(kept)

    def problem(self, code: str, location: Location, message: str, remedy: str = "") -> ConfigError:
        """Return a mistake at this place of the file."""
        return ConfigError(code, message, remedy=remedy, file=self.file, line=self.line_of(location))


def read_tree(path: Path, kind: FileKind) -> YamlTree:
    """Read one file.

    Raises:
        ConfigErrors: it cannot be read, is no YAML, has a key twice, or holds no keys at all.
    """
    file = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _alone(kind, "file_unreadable", f"The file cannot be read: {error.strerror}.", file) from error
    if len(raw) > MAX_FILE_BYTES:
        raise _alone(kind, "file_unreadable", f"The file is larger than {MAX_FILE_BYTES} bytes.", file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _alone(kind, "file_unreadable", "The file is not UTF-8 text.", file) from error
    content = _Reading(file, kind).of(text)
    if not isinstance(content, dict):
        raise _alone(kind, "file_empty", f"The file holds no {kind.holds}.", file, remedy=f"Start with `{kind.start}`.")
    return YamlTree(file, kind, content, text)


def _alone(
    kind: FileKind, code: str, message: str, file: str, line: int | None = None, remedy: str = ""
) -> ConfigErrors:
    return ConfigErrors([ConfigError(f"{kind.code}_{code}", message, remedy=remedy, file=file, line=line)])


class _Reading:
    """One pass over a file's events; what an alias repeats is made once and counted as often as it is used."""

    def __init__(self, file: str, kind: FileKind, lines: dict[Location, int] | None = None) -> None:
        self._file = file
        self._kind = kind
        self._lines = lines
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._events: Any = None

    def of(self, text: str) -> Any:
        """Return the value of the only document, None of an empty file."""
        try:
            self._events = _Loader(text)
        except ReaderError as error:
            raise self._wrong(None, "file_not_yaml", f"This is not YAML: {error.reason}.") from error
        try:
            self._events.get_event()  # the stream begins
            if not self._events.check_event(yaml.DocumentStartEvent):
                return None
            self._events.get_event()
            value, _ = self._value(self._events.get_event(), ())
            self._events.get_event()  # the document ends
            if not self._events.check_event(yaml.StreamEndEvent):
                raise self._wrong(self._events.peek_event(), "file_not_yaml", "A second document begins here.")
            return value
        except yaml.MarkedYAMLError as error:
            raise self._wrong(error, "file_not_yaml", f"This is not YAML: {error.problem}.") from error
        except ReaderError as error:
            raise self._wrong(None, "file_not_yaml", f"This is not YAML: {error.reason}.") from error
        finally:
            self._events.dispose()

    def _value(self, event: Event, place: Location) -> tuple[Any, int]:
        """Return the value that begins with this event, and how many values it holds."""
        if self._lines is not None and place:
            self._lines.setdefault(place, event.start_mark.line + 1)
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if len(place) > MAX_DEPTH:
            raise self._wrong(event, "file_not_yaml", f"This is nested more than {MAX_DEPTH} deep.")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, ScalarEvent):
            value: Any = self._scalar(event)
            size = 1
        else:
            standard = _TAG + ("map" if isinstance(event, MappingStartEvent) else "seq")
            if event.tag not in (None, "!", standard):
                raise self._wrong(event, "file_not_yaml", f"The tag {event.tag} means nothing here.")
            value, size = (
                self._sequence(place) if isinstance(event, SequenceStartEvent) else self._mapping(event, place)
            )
        if size > MAX_VALUES:
            raise self._wrong(event, "file_unreadable", f"The file holds more than {MAX_VALUES} values.")
        if event.anchor is not None:
            self._anchors[event.anchor] = value, size
        return value, size

    def _alias(self, event: AliasEvent) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            raise self._wrong(event, "file_not_yaml", f"There is no anchor &{event.anchor} before this.")
        found = self._anchors[event.anchor]
        if found is None:
            raise self._wrong(event, "file_not_yaml", "This holds itself.")
        return found

    def _sequence(self, place: Location) -> tuple[list[Any], int]:
        values: list[Any] = []
        total = 1
        while not self._events.check_event(yaml.SequenceEndEvent):
            value, size = self._value(self._events.get_event(), (*place, len(values)))
            values.append(value)
            total += size
        self._events.get_event()
        return values, total

    def _mapping(self, event: Event, place: Location) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        total = 1
        while not self._events.check_event(yaml.MappingEndEvent):
            key_event = self._events.get_event()
            if not isinstance(key_event, ScalarEvent):
                raise self._wrong(key_event, "file_not_yaml", "A key must be one word.")
            key = key_event.value
            merges = key == "<<" and key_event.implicit[0]
            if key in values and not merges:
                raise self._wrong(key_event, "key_twice", "The same key stands here twice.")
            if self._lines is not None and not merges:
                self._lines[(*place, key)] = key_event.start_mark.line + 1
            value, size = self._value(self._events.get_event(), (*place, key))
            total += size
            if merges:
                self._merge(key_event, value, merged)
            else:
                values[key] = value
        self._events.get_event()
        return {**merged, **values} if merged else values, total

    def _merge(self, event: Event, value: Any, merged: dict[str, Any]) -> None:
        for group in value if isinstance(value, list) else [value]:
            if not isinstance(group, dict):
                raise self._wrong(event, "value_wrong", "Only a group of keys can be merged with `<<`.")
            for key, inner in group.items():
                merged.setdefault(key, inner)

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if event.implicit[0]:
            if text and text[0] not in _MAY_BE_OTHER:
                return text
            read = next((read for _, pattern, read in _PLAIN if pattern.match(text)), str)
        elif event.tag in (None, "!", _TAG + "str"):
            return text
        else:
            name = event.tag.removeprefix(_TAG)
            found = next((read for known, pattern, read in _PLAIN if known == name and pattern.match(text)), None)
            if found is None:
                raise self._wrong(event, "file_not_yaml", f"The tag {event.tag} means nothing here.")
            read = found
        try:
            return read(text)
        except ValueError:
            return text  # too many digits for a number

    def _wrong(self, where: Any, code: str, message: str) -> ConfigErrors:
        mark = getattr(where, "start_mark", None) or getattr(where, "problem_mark", None)
        return _alone(self._kind, code, message, self._file, mark.line + 1 if mark else None)


def _folded(key: str) -> str:
    return key.replace("_", "").lower()


def _spelled(group: Mapping[str, Any], key: str) -> str | None:
    if key in group:
        return key
    return next((written for written in group if _folded(written) == _folded(key)), None)

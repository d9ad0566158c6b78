"""Scripts as files: YAML in, a script out, or what is wrong in which line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bridge.backends.cascade.hours import Hours, Timetable, WrongHours
from bridge.backends.cascade.script import (
    OTHER,
    Intent,
    Script,
    State,
    expand,
    hours_of,
    target_of,
)
from bridge.errors import ConfigError

Place = tuple[str | int, ...]
"""Keys and indexes from the top."""

MAX_DEPTH = 16
KEYS = frozenset("0123456789*#ABCD")
URI_SCHEMES = ("tel:", "sip:", "sips:")


class Wrong(Exception):
    def __init__(self, problem: str, place: Place, line: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.line = line


class Document:
    """Every scalar is a string: YAML 1.1 would make booleans of `on` and `no`.

    Raises Wrong.
    """

    def __init__(self, text: str) -> None:
        try:
            self._root = yaml.compose(text, Loader=yaml.BaseLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise Wrong(error.problem or "no YAML", (), line) from None
        except yaml.YAMLError as error:
            raise Wrong(str(error), ()) from None
        self.content = _plain(self._root, ())

    def line(self, place: Place) -> int:
        """Of what is there, or else of what it should be in."""
        node, line = self._root, 1
        for key in place:
            if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
                line = node.start_mark.line + 1
                continue
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            found = next((pair for pair in pairs if pair[0].value == key), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line


def _plain(node: Any, place: Place) -> Any:
    if len(place) > MAX_DEPTH:
        raise Wrong("too many levels", place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, n)) for n, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return None if node is None else node.value
    content: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in content:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            problem = f"{name} is here twice" if name in content else f"{name} is no key"
            raise Wrong(problem, place, key.start_mark.line + 1)
        content[key.value] = _plain(value, (*place, key.value))
    return content


def load(path: Path) -> Script:
    """Raises ConfigError that names the file, the line and the key."""
    document: Document | None = None
    try:
        document = Document(path.read_text(encoding="utf-8"))
        script = _convert(document.content)
        _refuse(_problems(script))
        script = expand(script)
        _refuse(_ambiguities(script))
        return script
    except (OSError, UnicodeDecodeError) as error:
        raise _error(path, str(error)) from error
    except Wrong as wrong:
        line = wrong.line or (document.line(wrong.place) if document else 0)
        at = ".".join(map(str, wrong.place))
        problem = f"{at}: {wrong.problem}" if at else wrong.problem
        raise _error(path, problem, line) from None


def _refuse(problems: Iterator[Wrong]) -> None:
    for problem in problems:
        raise problem


def _error(path: Path, problem: str, line: int = 0) -> ConfigError:
    place = f"{path.name}, line {line}" if line else path.name
    return ConfigError(f"script {place}: {problem}", param="cascade.llm.model")


def _convert(content: Any) -> Script:
    try:
        return msgspec.convert(content, Script, strict=False)
    except msgspec.ValidationError as error:
        problem, _, pattern = str(error).partition(" - at `")
        place = _find(content, pattern.rstrip("`"), str(error))
        unknown = re.search(r"unknown field `(.+)`", problem)
        raise Wrong(problem, (*place, unknown[1]) if unknown else place) from None


def _find(content: Any, pattern: str, complaint: str) -> Place:
    """What `$.states[...].on` is: the keys that are not told are those that the complaint is
    about when the others are not there."""
    place: Place = ()
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", pattern):
        if index != "...":
            place = (*place, int(index) if index else name)
            continue
        keys = list(_at(content, place))
        guilty = (key for key in keys if _complains(_only(content, place, key), complaint))
        place = (*place, next(guilty, keys[0]))
    return place


def _at(content: Any, place: Place) -> Any:
    for key in place:
        content = content[key]
    return content


def _only(content: Any, place: Place, key: str) -> Any:
    """A copy in which nothing but `key` is at `place`."""
    if not place:
        return {key: content[key]}
    head, *rest = place
    if isinstance(content, list):
        return [_only(v, tuple(rest), key) if n == head else v for n, v in enumerate(content)]
    return content | {head: _only(content[head], tuple(rest), key)}


def _complains(content: Any, complaint: str) -> bool:
    try:
        msgspec.convert(content, Script, strict=False)
    except msgspec.ValidationError as error:
        return str(error) == complaint
    return False


def _problems(script: Script) -> Iterator[Wrong]:
    yield from _of_hours(script)
    yield from _of_departments(script)
    for codes in script.reasons:
        for code in codes.split():
            if code != OTHER and not re.fullmatch(r"[3-6]\d\d", code):
                problem = f"{code} is no SIP status of a failure, and not {OTHER}"
                yield Wrong(problem, ("reasons", codes))
    for name, state in script.states.items():
        yield from _of_state(state, ("states", name), script)
    for place, to in _leads(script):
        if to and to not in script.states:
            yield Wrong(f"there is no state {to}", place)


def _of_hours(script: Script) -> Iterator[Wrong]:
    if script.hours is not None:
        yield from _of_timetable(script.hours, ("hours",))
    for name, department in script.departments.items():
        yield from _of_timetable(hours_of(department, script), ("departments", name))


def _of_timetable(hours: Hours, place: Place) -> Iterator[Wrong]:
    try:
        Timetable.of(hours)
    except WrongHours as wrong:
        yield Wrong(wrong.message.removeprefix("hours: "), (*place, *wrong.place))


def _of_departments(script: Script) -> Iterator[Wrong]:
    for name, department in script.departments.items():
        if not department.target.startswith(URI_SCHEMES):
            yield Wrong("no tel: and no sip: URI", ("departments", name, "target"))
    for name, state in script.states.items():
        for number, wanted in enumerate(state.departments):
            place = ("states", name, "departments", number)
            if wanted not in script.departments:
                yield Wrong(f"there is no department {wanted}", place)
            if wanted in state.expect:
                yield Wrong(f"{wanted} is an intent, too", place)


def _of_state(state: State, place: Place, script: Script) -> Iterator[Wrong]:
    for intent in sorted(state.expect.keys() ^ state.on.keys()):
        yield Wrong(f"{intent} must be in both expect and on", place)
    for intent in state.confirm.keys() - state.expect.keys():
        yield Wrong(f"{intent} is not expected", (*place, "confirm", intent))
    records = state.records
    if records is None:
        return
    place = (*place, "records")
    if not 0 <= records.min_s < records.max_s:
        yield Wrong("max_s must be above min_s", place)
    if records.silence_s <= 0:
        yield Wrong("it must be above 0", (*place, "silence_s"))
    if not set(records.finish) <= KEYS:
        yield Wrong("not only keys of a telephone", (*place, "finish"))


def _leads(script: Script) -> Iterator[tuple[Place, str]]:
    """Every name of a state, and where it is."""
    yield ("start",), script.start
    yield ("give_up", "to"), script.give_up.to
    if script.hours is not None:
        yield ("hours", "closed"), script.hours.closed
    for name, department in script.departments.items():
        for field in ("failed", "meanwhile", "closed"):
            yield ("departments", name, field), getattr(department, field)
    for name, state in script.states.items():
        place = ("states", name)
        yield (*place, "anything"), state.anything
        if state.records is not None:
            for field in ("then", "failed"):
                yield (*place, "records", field), getattr(state.records, field)
        for intent in state.on:
            target = target_of(state, intent)
            yield (*place, "on", intent), target.to
            for field in ("otherwise", "failed", "closed"):
                yield (*place, "on", intent, field), getattr(target, field)


def _ambiguities(script: Script) -> Iterator[Wrong]:
    for name, state in script.states.items():
        yield from _ambiguous(state.expect, ("states", name))
    yield from _ambiguous({"agree": script.agree, "refuse": script.refuse}, ())


def _ambiguous(intents: Mapping[str, Intent], place: Place) -> Iterator[Wrong]:
    meanings: dict[str, str] = {}
    for name, intent in intents.items():
        for said in (*intent.phrases, *intent.dtmf):
            if meanings.setdefault(said, name) != name:
                yield Wrong(f"{said} means both {meanings[said]} and {name}", place)

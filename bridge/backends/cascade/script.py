"""Scripts of the embedded model: their YAML, and where a conversation stands in one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec
import yaml

from bridge.backends.cascade.hours import Hours, Timetable
from bridge.errors import ConfigError

DTMF_PREFIX = "[dtmf]"
TRANSFER = "transfer_call"
"""The tool by which a script gives its caller to somebody else."""


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    phrases: tuple[str, ...] = ()
    dtmf: str = ""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an intent leads: to a state, by way of a tool if the session has it."""

    to: str
    say: str = ""
    """Said with the tool call; the words of `to` follow its result."""
    tool: str = ""
    arguments: dict[str, str] = {}
    otherwise: str = ""
    """The state to go to when the session lacks the tool; "": `to`."""
    failed: str = ""
    """The state to go to when the transfer fails; "": `to`."""
    closed: str = ""
    """The state to go to outside of the hours; "": as within them."""

    @property
    def destination(self) -> str:
        """Where it transfers to, if that is no mere name."""
        wanted = self.arguments.get("target", "") if self.tool == TRANSFER else ""
        return wanted if wanted.startswith(("sip:", "sips:", "tel:")) else ""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    say: str
    again: str = ""
    """Said in place of `say` when the caller comes back after a "no"."""
    expect: dict[str, Intent] = {}
    on: dict[str, str | Target] = {}
    confirm: dict[str, str] = {}
    """Intent to the question asked before it is acted on."""
    on_nomatch: tuple[str, ...] = ()
    on_noinput: tuple[str, ...] = ()
    anything: str = ""
    """The state any utterance leads to, understood or not."""
    pause_ms: int = 0
    hangs_up: bool = False


class GiveUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: int
    to: str


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    start: str
    states: dict[str, State]
    agree: Intent
    refuse: Intent
    give_up: GiveUp
    unsure: str = "Please say yes or no."
    hours: Hours | None = None

    @property
    def transfers(self) -> bool:
        """Whether it says itself where callers are transferred to."""
        targets = (
            target_of(state, intent) for state in self.states.values() for intent in state.on
        )
        return any(target.destination for target in targets)


@dataclass(frozen=True, slots=True)
class Position:
    """`asked`: the intent waiting for a yes; `misses`: turns in a row that meant nothing."""

    state: str
    asked: str = ""
    misses: int = 0
    heard: bool = True
    """Whether the last miss was words, and not silence."""
    returned: bool = False
    arrived_by: Target | None = None


def load(path: Path) -> Script:
    """Raises ConfigError that names the file and the place."""
    try:
        # BaseLoader keeps every scalar a string: YAML 1.1 would make booleans of `on` and `no`.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        script = msgspec.convert(content, Script, strict=False)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"script {path.name}: {error}", param="cascade.llm.model") from error
    problem = next(_problems(script), "")
    if not problem and script.hours is not None:
        Timetable.of(script.hours)
    if problem:
        raise ConfigError(f"script {path.name}: {problem}", param="cascade.llm.model")
    return script


def _problems(script: Script) -> Iterator[str]:
    places = {"start": script.start, "give_up.to": script.give_up.to}
    if script.hours is not None:
        places["hours.closed"] = script.hours.closed
    for name, state in script.states.items():
        if state.anything:
            places[f"states.{name}.anything"] = state.anything
        for intent in state.expect.keys() ^ state.on.keys():
            yield f"states.{name}: {intent} must be in both expect and on"
        for intent in state.confirm.keys() - state.expect.keys():
            yield f"states.{name}.confirm: {intent} is not expected"
        for intent in state.on:
            target = target_of(state, intent)
            places[f"states.{name}.on.{intent}"] = target.to
            for other in ("otherwise", "failed", "closed"):
                if getattr(target, other):
                    places[f"states.{name}.on.{intent}.{other}"] = getattr(target, other)
    for place, to in places.items():
        if to not in script.states:
            yield f"{place}: there is no state {to}"


def at(script: Script, now: datetime) -> Script:
    """What it is at this time: outside of its hours it begins and leads elsewhere."""
    if script.hours is None or Timetable.of(script.hours).is_open(now):
        return script
    return _closed(script)


def _closed(script: Script) -> Script:
    assert script.hours is not None
    states = {
        name: msgspec.structs.replace(state, on={i: _when_closed(state, i) for i in state.on})
        for name, state in script.states.items()
    }
    return msgspec.structs.replace(script, start=script.hours.closed, states=states)


def _when_closed(state: State, intent: str) -> Target:
    target = target_of(state, intent)
    return Target(to=target.closed) if target.closed else target


def target_of(state: State, intent: str) -> Target:
    target = state.on[intent]
    return Target(to=target) if isinstance(target, str) else target


def expected(script: Script, position: Position) -> Mapping[str, Intent]:
    """The intents understood here."""
    if position.asked:
        return {"agree": script.agree, "refuse": script.refuse}
    return script.states[position.state].expect


def advance(script: Script, position: Position, utterance: str, tools: frozenset[str]) -> Position:
    """Where one user turn leads: words, or `[dtmf] 12` for keys."""
    if utterance.startswith(DTMF_PREFIX):
        keys = utterance.removeprefix(DTMF_PREFIX).replace(" ", "")
        for key in keys.rstrip("#") or keys:
            position = _step(script, position, _by_key(script, position, key), tools)
        return position
    words = normalise(utterance)
    state = script.states[position.state]
    if state.anything and not position.asked:
        return Position(state.anything)
    intent = _by_words(expected(script, position), words)
    return replace(_step(script, position, intent, tools), heard=bool(words))


def _step(script: Script, position: Position, intent: str, tools: frozenset[str]) -> Position:
    state = script.states[position.state]
    if not intent:
        missed = replace(position, misses=position.misses + 1, returned=False, arrived_by=None)
        if missed.misses >= script.give_up.after and not state.hangs_up:
            return Position(script.give_up.to)
        return missed
    if position.asked:
        if intent == "refuse":
            return Position(position.state, returned=True)
        return _arrive(target_of(state, position.asked), tools)
    if intent in state.confirm:
        return Position(position.state, asked=intent)
    return _arrive(target_of(state, intent), tools)


def _arrive(target: Target, tools: frozenset[str]) -> Position:
    if target.tool and target.tool not in tools:
        return Position(target.otherwise or target.to)
    return Position(target.to, arrived_by=target if target.tool else None)


def _by_key(script: Script, position: Position, key: str) -> str:
    intents = expected(script, position)
    return next((name for name, intent in intents.items() if key in intent.dtmf), "")


def _by_words(intents: Mapping[str, Intent], words: str) -> str:
    """The intent whose longest phrase is in `words`; "" when none is."""
    best, length = "", 0
    for name, intent in intents.items():
        for phrase in intent.phrases:
            wanted = normalise(phrase)
            if len(wanted) > length and f" {wanted} " in f" {words} ":
                best, length = name, len(wanted)
    return best


def normalise(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()))


def words_at(script: Script, position: Position) -> str:
    """What the script says at this place."""
    state = script.states[position.state]
    if position.misses:
        prompts = state.on_nomatch if position.heard else state.on_noinput or state.on_nomatch
        if position.asked:
            return f"{script.unsure} {state.confirm[position.asked]}"
        return prompts[min(position.misses, len(prompts)) - 1] if prompts else state.say
    if position.asked:
        return state.confirm[position.asked]
    return (state.again or state.say) if position.returned else state.say

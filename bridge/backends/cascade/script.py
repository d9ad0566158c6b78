"""Scripts of the embedded model, and where a conversation stands in one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from bridge.backends.cascade.hours import Hours, Timetable

DTMF_PREFIX = "[dtmf]"
TRANSFER = "transfer_call"
"""The tool by which a script gives its caller to somebody else."""
TAKE_MESSAGE = "take_message"
"""The tool by which it has what the caller says next recorded."""
WHY = "{why}"
OTHER = "other"


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


class Department(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody a caller may be put through to."""

    target: str
    """A tel: or sip: URI."""
    failed: str
    """The state to go to when nobody takes the call."""
    phrases: tuple[str, ...] = ()
    dtmf: str = ""
    confirm: str = ""
    """The question asked before; "": none."""
    say: str = ""
    """Said with the transfer."""
    meanwhile: str = ""
    """The state while the target rings; "": `failed`."""
    closed: str = ""
    """The state to go to outside of its hours; "": it is called at any time."""
    days: dict[str, str] = {}
    """Its hours, where they are not those of the script: in its time zone (UTC if it has none),
    with its holidays."""


class Records(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message to be taken from the caller. One of less than `min_s` is not kept, and a miss."""

    then: str
    """The state after it."""
    failed: str = ""
    """The state to go to where nothing can be recorded; "": where the script gives up."""
    min_s: float = 1.0
    max_s: float = 120.0
    silence_s: float = 2.0
    """How long the caller may say nothing before it is over."""
    finish: str = "#"
    """Keys that end it."""


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
    departments: tuple[str, ...] = ()
    """Those that can be reached from here: they are added to `expect`, `on` and `confirm`."""
    records: Records | None = None
    """What is said next, after `say` and a tone, is recorded."""
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
    departments: dict[str, Department] = {}
    reasons: dict[str, str] = {}
    """What {why} stands for after a transfer that failed, by SIP status ("486 600") or "other"."""

    @property
    def takes_messages(self) -> bool:
        return any(state.records for state in self.states.values())

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
    status: str = ""
    """Of the transfer that has failed."""


def at(script: Script, now: datetime) -> Script:
    """What it is at this time: outside of its hours it begins and leads elsewhere."""
    hours = script.hours
    open_now = hours is None or Timetable.of(hours).is_open(now)
    departments = {
        name: Timetable.of(hours_of(department, script)).is_open(now)
        if department.days
        else open_now
        for name, department in script.departments.items()
    }
    if open_now and all(departments.values()):
        return script
    states = {
        name: msgspec.structs.replace(
            state,
            on={
                intent: _at_hand(state, intent, open_now=departments.get(intent, open_now))
                for intent in state.on
            },
        )
        for name, state in script.states.items()
    }
    start = script.start if hours is None or open_now else hours.closed
    return msgspec.structs.replace(script, start=start, states=states)


def hours_of(department: Department, script: Script) -> Hours:
    """Its own days."""
    hours = script.hours or Hours(days={}, closed="")
    return msgspec.structs.replace(hours, days=department.days)


def _at_hand(state: State, intent: str, *, open_now: bool) -> Target:
    target = target_of(state, intent)
    return Target(to=target.closed) if target.closed and not open_now else target


def expand(script: Script) -> Script:
    """With its departments among the intents of the states that lead to them."""
    states = {
        name: _with_departments(state, script) if state.departments else state
        for name, state in script.states.items()
    }
    return msgspec.structs.replace(script, states=states)


def _with_departments(state: State, script: Script) -> State:
    found = {name: script.departments[name] for name in state.departments}
    expect = {name: Intent(each.phrases, each.dtmf) for name, each in found.items()}
    on = {name: _transfer(each) for name, each in found.items()}
    confirm = {name: each.confirm for name, each in found.items() if each.confirm}
    return msgspec.structs.replace(
        state,
        expect={**expect, **state.expect},
        on={**on, **state.on},
        confirm={**confirm, **state.confirm},
    )


def _transfer(department: Department) -> Target:
    return Target(
        to=department.meanwhile or department.failed,
        say=department.say,
        tool=TRANSFER,
        arguments={"target": department.target},
        failed=department.failed,
        closed=department.closed,
    )


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


def reached(script: Script, position: Position, tools: frozenset[str]) -> Position:
    """`position`, unless a message was to be taken there and cannot be."""
    records = script.states[position.state].records
    if records is None or TAKE_MESSAGE in tools:
        return position
    return Position(records.failed or script.give_up.to)


def unheard(script: Script, position: Position) -> Position:
    """As after a turn of the caller's without a word."""
    return replace(_step(script, position, "", frozenset()), heard=False)


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
    said = _prompt(script, position)
    return said.replace(WHY, _reason(script, position.status)) if WHY in said else said


def _reason(script: Script, status: str) -> str:
    named = (reason for codes, reason in script.reasons.items() if status in codes.split())
    return next(named, script.reasons.get(OTHER, ""))


def _prompt(script: Script, position: Position) -> str:
    state = script.states[position.state]
    if position.misses:
        prompts = state.on_nomatch if position.heard else state.on_noinput or state.on_nomatch
        if position.asked:
            return f"{script.unsure} {state.confirm[position.asked]}"
        return prompts[min(position.misses, len(prompts)) - 1] if prompts else state.say
    if position.asked:
        return state.confirm[position.asked]
    return (state.again or state.say) if position.returned else state.say

"""What a caller and a sideband notice when the model fails at any event it sends.

    python -m tests.e2e.upstream_faults [--jobs 4] [--events PART] [--faults die,stall]

A call for each event and fault: the caller speaks, is answered, and speaks again. `gap` is the
longest time for which an answer was owed and not heard, from the caller's own recording; `dead`
the same where a comfort tone counts as heard; `last` the wait for the answer to the last turn.
"""

import argparse
import asyncio
import functools
import gc
import itertools
import multiprocessing
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from agents.realtime.openai_realtime import get_server_event_type_adapter
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter, ValidationError

from tests.peers.phone import Phone
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import (
    AUDIBLE,
    LOUD,
    Conversation,
    Sideband,
    Stage,
    loud_ms,
    open_files,
    relay_tasks,
    staged,
    until,
)
from tests.peers.upstream_rules import FAULTS, Fault, FaultKind, Rules
from tests.ports import free_port

TURN = (
    "session.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.completed",
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
)
TOOL = ("response.function_call_arguments.delta", "response.function_call_arguments.done")
BARGE_IN = ("conversation.item.truncated",)
REFUSAL = ("error",)
EVENTS = (*TURN, *TOOL, *BARGE_IN, *REFUSAL)
LATER = {"response.output_audio.delta": 4, "response.output_audio_transcript.delta": 4}
"""Where the first of a kind is not the one that hurts."""

TRANSCRIBED: dict[str, Any] = {"upstream.transcription": "whisper-1"}
LOOK_UP = {"type": "function", "name": "look_up", "parameters": {"type": "object"}}


@dataclass
class Outcome:
    event: str
    fault: str
    happened: bool = False
    answered: bool = False
    waits_ms: list[int] = field(default_factory=list)
    dead_ms: int = 0
    heard_ms: int = 0
    hole_ms: int = 0
    """The longest within an answer."""
    connections: int = 0
    events: int = 0
    errors: int = 0
    wrong: list[str] = field(default_factory=list)
    """What the official clients would not take."""
    open_responses: int = 0
    leaks: dict[str, int] = field(default_factory=dict)

    @property
    def gap_ms(self) -> int:
        return max(self.waits_ms, default=-1)

    @property
    def last_ms(self) -> int:
        return self.waits_ms[-1] if self.waits_ms else -1

    @property
    def whole(self) -> bool:
        """Everything was answered, sidebands could follow, and nothing is left."""
        clean = not any(self.leaks.values()) and not self.wrong and not self.open_responses
        return self.happened and self.answered and clean

    def row(self) -> str:
        leaks = "/".join(str(n) for n in self.leaks.values())
        seen = f"{self.events} ({self.errors} errors)"
        return (
            f"{self.event:<54}{self.fault:<8}{self.gap_ms:>6}{self.dead_ms:>6}"
            f"{self.last_ms:>6}{self.heard_ms:>7}{self.connections:>4}  {seen:<16}"
            f"{leaks:<8}{'' if self.whole else 'FAILED ' + ' '.join(self.wrong)}"
        )


HEAD = (
    f"{'event':<54}{'fault':<8}{'gap':>6}{'dead':>6}{'last':>6}{'heard':>7}{'con':>4}  "
    f"{'sideband':<16}tasks/files/calls"
)


async def two_turns(talk: Conversation, sideband: Sideband) -> bool:
    return await talk.turn() and await talk.turn()


async def tool_turn(talk: Conversation, sideband: Sideband) -> bool:
    """The model asks for a function before it answers; the client is slower than the fault."""
    await sideband.send("session.update", session={"type": "realtime", "tools": [LOOK_UP]})
    content = [{"type": "input_text", "text": "use the tool"}]
    item = {"type": "message", "role": "user", "content": content}
    await sideband.send("conversation.item.create", item=item)
    await sideband.send("response.create")
    done = await sideband.wait_for("response.function_call_arguments.done", timeout_s=20)
    await sideband.wait_for("response.done", timeout_s=20)
    output = {"type": "function_call_output", "call_id": done["call_id"], "output": "7"}
    await sideband.send("conversation.item.create", item=output)
    return await talk.turn()


async def barge_in(talk: Conversation, sideband: Sideband) -> bool:
    await talk.speak()
    await sideband.wait_for("output_audio_buffer.started")
    await asyncio.sleep(0.5)
    return await talk.turn() and await talk.turn()


def play_of(event: str) -> Callable[[Conversation, Sideband], Awaitable[bool]]:
    if event in TOOL:
        return tool_turn
    return barge_in if event in BARGE_IN else two_turns


def upstream_for(event: str, fault: FaultKind) -> Upstream:
    rules = Rules()
    if event in REFUSAL:
        taken = ("audio.input.format", "audio.input.turn_detection", "audio.output.format")
        rules = Rules(fields=("type", "instructions", "audio.output.voice", *taken))
    return Upstream(rules=rules, fault=Fault(fault, event, LATER.get(event, 1)))


@functools.cache
def _types() -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    return TypeAdapter(RealtimeServerEvent), get_server_event_type_adapter()


def misshapen(events: Sequence[dict[str, Any]]) -> list[str]:
    """What the official clients' types do not take."""
    found = []
    for event in events:
        try:
            taken = all(t.validate_python(event).type == event["type"] for t in _types())
        except ValidationError:
            taken = False
        if not taken:
            found.append(event["type"])
    return found


async def play(event: str, fault: FaultKind) -> Outcome:
    outcome = Outcome(event, fault)
    far = upstream_for(event, fault)
    async with staged(far, TRANSCRIBED) as stage:
        await follow(stage, *await stage.named_call(), outcome)
        outcome.leaks["calls"] = await left(stage)
    outcome.happened = far.failed == 1
    outcome.connections = len(far.sessions)
    return outcome


async def at_once(cells: Sequence[tuple[str, FaultKind]], **settings: float) -> list[Outcome]:
    """Calls of one service at the same time, each with its own fault, of events of a turn."""
    _types()  # Takes its time, which none of the calls has.
    outcomes = [Outcome(*each) for each in cells]
    named = {f"upstream.{name}": value for name, value in settings.items()}
    far = Upstream()
    async with staged(far, TRANSCRIBED | named) as stage:
        calls = []
        for event, fault in cells:
            far.once = [Fault(fault, event, LATER.get(event, 1))]
            calls.append(await stage.named_call())
        await asyncio.gather(
            *(follow(stage, *call, outcome) for call, outcome in zip(calls, outcomes, strict=True))
        )
        leaks = {"calls": await left(stage)}
    for outcome in outcomes:
        outcome.happened = far.failed == len(cells)
        outcome.leaks = leaks
    return outcomes


async def left(stage: Stage) -> int:
    """Calls that are still up."""
    await until(lambda: not stage.service.switchboard.live(), 3)
    return len(stage.service.switchboard.live())


async def follow(stage: Stage, phone: Phone, call_id: str, outcome: Outcome) -> None:
    talk = Conversation(phone)
    async with stage.sideband(call_id) as sideband:
        outcome.answered = await play_of(outcome.event)(talk, sideband)
        phone.hangup()
        await sideband.ended()
    await phone.close()
    outcome.waits_ms = talk.waits_ms(LOUD)
    outcome.dead_ms = max(talk.waits_ms(AUDIBLE))
    outcome.heard_ms = loud_ms(phone)
    outcome.hole_ms = max(talk.holes_ms())
    outcome.events = len(sideband.events)
    outcome.errors = sideband.types.count("error")
    outcome.wrong = misshapen(sideband.events)
    done = sideband.types.count("response.done")
    outcome.open_responses = sideband.types.count("response.created") - done


def cell(event: str, fault: FaultKind) -> Outcome:
    """Alone in its process for as long as it lasts, so that what it leaves behind is its own."""
    free_port()  # A process holds its ports by a file of its own.
    gc.collect()
    before = open_files()
    tasks = 0

    async def main() -> Outcome:
        nonlocal tasks
        try:
            outcome = await play(event, fault)
        except (AssertionError, TimeoutError) as error:
            outcome = Outcome(event, fault, wrong=[repr(error)], leaks={"calls": -1})
        tasks = len(asyncio.all_tasks()) - 1 + len(relay_tasks())
        return outcome

    outcome = asyncio.run(main())
    gc.collect()
    leaks = {"tasks": tasks, "files": open_files() - before, "calls": outcome.leaks["calls"]}
    outcome.leaks = leaks
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=4, help="calls at a time")
    parser.add_argument("--events", default="", help="only events with this in their name")
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    wanted = [fault for fault in FAULTS if fault in options.faults.split(",")]
    cells = [(e, f) for e, f in itertools.product(EVENTS, wanted) if options.events in e]
    print(HEAD, flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, max_tasks_per_child=None) as pool:
        outcomes = []
        for outcome in pool.map(cell, *zip(*cells, strict=True)):
            print(outcome.row(), flush=True)
            outcomes.append(outcome)
    bad = [outcome for outcome in outcomes if not outcome.whole]
    for fault in wanted:
        gaps = sorted(each.gap_ms for each in outcomes if each.fault == fault)
        print(f"{fault:<8} gap median {gaps[len(gaps) // 2]} ms, longest {gaps[-1]} ms")
    print(f"{len(outcomes)} cells, {len(bad)} failed")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.frames import MODEL_FRAME
from bridge.backends.base import (
    CallAction,
    Capabilities,
    MessageTerms,
    ResponseFinished,
    SpeechStarted,
    SpeechStopped,
    TakeMessage,
)
from bridge.calls.messages import Message, MessageTaker
from bridge.calls.switchboard import Limits
from bridge.ids import CallId
from bridge.media.recorder import Recorder
from tests import virtual
from tests.calls.desk import Desk
from tests.legs.extension import Extension

TERMS = MessageTerms(min_s=1, max_s=20, silence_s=2, finish="#")
VOICE = np.full(MODEL_FRAME, 500, np.int16)


class Taking:
    """A caller who talks and is silent by the clock of the frames."""

    def __init__(self, folder: Path, terms: MessageTerms = TERMS) -> None:
        self.recorder = Recorder(folder)
        self.messages: list[Message] = []
        track = self.recorder.track("message")
        self.taker = MessageTaker(terms, track, self.messages.append, began_at=1.5)

    def frames(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            self.taker.hear(VOICE)

    def talks(self, seconds: float) -> None:
        self.taker.speech_started()
        self.frames(seconds + 0.5)
        self.taker.speech_stopped()

    def over(self, folder: Path) -> tuple[str, float, bool]:
        """How it ended, after how many seconds, and whether there is a file."""
        self.recorder.close()
        (message,) = self.messages
        files = [path.name for path in folder.iterdir()]
        assert files == (["message.wav"] if message.kept else [])
        if message.kept:
            assert (folder / files[0]).stat().st_size == 44 + 48 * message.duration_ms
        return message.ended_by, message.duration_ms / 1000, message.kept


def by_key(taking: Taking) -> None:
    taking.frames(0.5)
    taking.taker.speech_started()
    taking.frames(3)
    for key in "5#":
        taking.taker.press(key)


def by_silence(taking: Taking) -> None:
    taking.talks(3)
    taking.frames(1)
    taking.talks(2)
    taking.frames(9)


def by_its_length(taking: Taking) -> None:
    taking.taker.speech_started()
    taking.frames(30)


def by_hanging_up(taking: Taking) -> None:
    taking.taker.speech_started()
    taking.frames(1.26)
    taking.taker.hang_up()


def by_saying_nothing(taking: Taking) -> None:
    taking.frames(9)


def by_saying_too_little(taking: Taking) -> None:
    taking.talks(0.6)
    taking.frames(9)


def by_hanging_up_at_once(taking: Taking) -> None:
    taking.taker.hang_up()


@pytest.mark.parametrize(
    ("caller", "outcome"),
    [
        (by_key, ("key", 3.5, True)),
        (by_silence, ("silence", 8.5, True)),
        (by_its_length, ("max_length", 20, True)),
        (by_hanging_up, ("hangup", 1.26, True)),
        (by_saying_nothing, ("silence", 5, False)),
        (by_saying_too_little, ("silence", 2.6, False)),
        (by_hanging_up_at_once, ("hangup", 0, False)),
    ],
)
def test_how_a_message_ends(
    tmp_path: Path, caller: Callable[[Taking], None], outcome: tuple[str, float, bool]
) -> None:
    taking = Taking(tmp_path)
    caller(taking)
    taking.taker.press("#")
    taking.taker.hang_up()
    assert taking.over(tmp_path) == outcome


async def takes_message(desk: Desk) -> None:
    """The model has asked for one, in its last words."""
    response_id = desk.model.orders[-1].response_id
    desk.model.emits(TakeMessage(response_id, TERMS))
    desk.model.emits(ResponseFinished(response_id))
    await virtual.wait(0.1)


async def up(desk: Desk) -> tuple[Extension, CallId]:
    leg, call_id = desk.call()
    await virtual.settle()
    leg.acknowledges()
    return leg, call_id


async def asked(desk: Desk) -> tuple[Extension, CallId]:
    """A caller whose model has asked for a message, and heard the tone."""
    leg, call_id = await up(desk)
    await takes_message(desk)
    assert leg.stream is not None
    for _ in range(25):
        leg.stream.next_frame()
    return leg, call_id


def reception(folder: Path | None) -> Desk:
    desk = Desk(capabilities=Capabilities(greets=True))
    if folder is not None:
        desk.board.message_recorder = Recorder(folder)
    return desk


def talks(desk: Desk, leg: Extension, seconds: float) -> None:
    """And is still talking."""
    assert leg.stream is not None
    desk.model.emits(SpeechStarted(0))
    for _ in range(round(seconds * 50)):
        leg.stream.deliver(VOICE)
        leg.stream.next_frame()


def news(desk: Desk) -> list[str]:
    """What the model was told of the call."""
    items = desk.model.orders[-1].items
    return [item["content"][0]["text"] for item in items if item.get("role") == "system"]


async def closed(desk: Desk, folder: Path) -> dict[str, int]:
    """Milliseconds of sound, by name of the file."""
    await desk.close()
    assert desk.board.message_recorder is not None
    desk.board.message_recorder.close()
    return lengths(folder)


def lengths(folder: Path) -> dict[str, int]:
    return {path.name: (path.stat().st_size - 44) // 48 for path in folder.iterdir()}


def test_what_is_said_after_the_tone_is_no_turn_but_a_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = reception(tmp_path)
        leg, call_id = await asked(desk)
        talks(desk, leg, 2)
        leg.presses("5")
        leg.presses("#")
        assert news(desk) == ["[message taken]"]
        asked_for = len(desk.model.orders)
        # What was left of it is no turn, the next words are.
        desk.model.emits(SpeechStopped(2000))
        assert len(desk.model.orders) == asked_for
        (message,) = desk.board.record(call_id)["messages"]
        assert message == {
            "file": f"{call_id}_message_1.wav",
            "began_at": desk.clock,
            "duration_ms": 2000,
            "ended_by": "key",
        }
        desk.model.emits(ResponseFinished(desk.model.orders[-1].response_id))
        talks(desk, leg, 1)
        desk.model.emits(SpeechStopped(2900))
        assert len(desk.model.orders) == asked_for + 1
        leg.ends("remote_hangup")
        await virtual.settle()
        assert await closed(desk, tmp_path) == {f"{call_id}_message_1.wav": 2000}

    virtual.run(scenario())


def test_the_tone_is_heard_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = reception(tmp_path)
        leg, _ = await up(desk)
        await takes_message(desk)
        assert leg.stream is not None
        frames = [leg.stream.next_frame() for _ in range(25)]
        loud = [frame is not None and bool(np.abs(frame).max() > 1000) for frame in frames]
        assert (loud[0], loud[19], loud[22]) == (True, True, False)
        leg.ends("remote_hangup")
        await virtual.settle()
        assert await closed(desk, tmp_path) == {}

    virtual.run(scenario())


def test_who_hangs_up_in_the_middle_of_a_word_loses_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(
            webhook=True,
            capabilities=Capabilities(greets=True),
            limits=Limits(webhook_events=("message", "ended")),
        )
        desk.board.message_recorder = Recorder(tmp_path)
        leg, call_id = await desk.answered()
        desk.board.session(call_id).greet()
        await takes_message(desk)
        talks(desk, leg, 3.3)
        leg.ends("remote_hangup")
        await virtual.settle()
        told = {"file": f"{call_id}_message_1.wav", "duration_ms": 3300, "ended_by": "hangup"}
        assert desk.webhooks is not None
        message, ended = desk.webhooks.events
        assert (message.type, ended.type) == ("realtime.call.message", "realtime.call.ended")
        assert message.data == {"call_id": call_id, "began_at": desk.clock, **told}
        assert ended.data["messages"] == desk.board.record(call_id)["messages"]
        assert await closed(desk, tmp_path) == {f"{call_id}_message_1.wav": 3300}

    virtual.run(scenario())


def test_a_call_may_have_more_than_one_and_a_sigh_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = reception(tmp_path)
        leg, call_id = await asked(desk)
        talks(desk, leg, 0.4)
        leg.presses("#")
        assert news(desk) == ["[message too short]"]
        for count in (1, 2):
            await takes_message(desk)
            talks(desk, leg, count + 1)
            desk.model.emits(SpeechStopped(1000))
            leg.presses("#")
        assert news(desk) == ["[message too short]", *["[message taken]"] * 2]
        leg.ends("remote_hangup")
        await virtual.settle()
        names = [f"{call_id}_message_{number}.wav" for number in (1, 2)]
        assert await closed(desk, tmp_path) == {names[0]: 2000, names[1]: 3000}

    virtual.run(scenario())


@pytest.mark.parametrize("before", ["a message", "a turn"])
def test_who_is_talking_when_it_begins_is_heard_from_there_on(before: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = reception(tmp_path)
        leg, call_id = await (asked(desk) if before == "a message" else up(desk))
        talks(desk, leg, 2)
        leg.presses("#")
        await takes_message(desk)
        assert leg.stream is not None
        for _ in range(75):
            leg.stream.deliver(VOICE)
        leg.ends("remote_hangup")
        await virtual.settle()
        kept = desk.board.record(call_id)["messages"]
        assert (kept[-1]["duration_ms"], kept[-1]["ended_by"]) == (1500, "hangup")
        assert len(await closed(desk, tmp_path)) == len(kept) == (2 if before == "a message" else 1)

    virtual.run(scenario())


def test_a_call_with_a_vault_records_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, capabilities=Capabilities(greets=True))
        desk.board.message_recorder = Recorder(tmp_path)
        vault = {"dtmf": {"length": 4, "vault": True}}
        leg, call_id = await desk.answered({"type": "realtime", "transport": vault})
        desk.board.session(call_id).greet()
        await takes_message(desk)
        assert news(desk) == ["[message failed]"]
        leg.ends("remote_hangup")
        await virtual.settle()
        assert await closed(desk, tmp_path) == {}

    virtual.run(scenario())


def test_where_nothing_can_be_recorded_the_model_hears_of_it() -> None:
    async def scenario() -> None:
        desk = reception(None)
        leg, call_id = await asked(desk)
        assert news(desk) == ["[message failed]"]
        assert desk.board.record(call_id)["messages"] == []
        leg.ends("remote_hangup")
        await virtual.settle()
        await desk.close()

    virtual.run(scenario())


@pytest.mark.parametrize("returns", [True, False])
def test_a_transfer_that_may_not_be_is_told_to_a_model_that_is_there(returns: bool) -> None:
    async def scenario() -> None:
        desk = reception(None)
        leg, call_id = await up(desk)
        response_id = desk.model.orders[-1].response_id
        desk.model.emits(CallAction(response_id, "transfer", "tel:+4930", returns=returns))
        desk.model.emits(ResponseFinished(response_id))
        await virtual.wait(0.1)
        if returns:
            assert news(desk) == ["[transfer failed: 400 Only phone calls can be transferred]"]
            assert desk.state(call_id) == "active"
            leg.ends("remote_hangup")
        await virtual.settle()
        assert desk.state(call_id).startswith("ended")
        await desk.close()

    virtual.run(scenario())

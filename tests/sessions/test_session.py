import asyncio
import json

import numpy as np
import pytest

from bridge import metrics
from bridge.audio.codecs import PCMU
from bridge.backends.base import (
    Aside,
    Capabilities,
    HoldPlayout,
    LoopAudio,
    Pcm,
    ResponseFailed,
    SpeechStarted,
    SpeechStopped,
    TranscriptCompleted,
    TurnTimed,
)
from bridge.errors import BackendError
from bridge.media.stream import AudioStream
from tests import virtual
from tests.backends.puppet import Puppet, tone
from tests.sessions.stage import HELLO, Stage, Wire, rest, send, total, until

# Clients


def test_everybody_is_told_the_same_in_the_same_order() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        first, second = stage.session.attach(), stage.session.attach()
        stage.agent_says()
        stage.play(1020)
        await stage.session.close()
        told = [json.dumps(event, separators=(",", ":")) for event in stage.events]
        # session.created is for each alone; all else is shared to the byte, event ids included.
        heard = await rest(first)
        assert heard[1:] == (await rest(second))[1:]
        assert [json.loads(text) for text in heard[1:]] == [json.loads(text) for text in told[1:]]
        assert json.loads(heard[0])["type"] == "session.created"
        assert stage.types()[-1] == "output_audio_buffer.stopped"

    virtual.run(scenario())


def test_an_error_is_told_to_the_offender_only() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        good, bad = stage.session.attach(), stage.session.attach()
        send(stage.session, bad, {"type": "response.cancel", "event_id": "mine"})
        send(stage.session, good, HELLO)
        assert await until(bad, "error") == ["session.created", "error"]
        assert "error" not in await until(good, "conversation.item.done")
        assert "error" not in stage.types()
        await stage.session.close()

    virtual.run(scenario())


def test_a_sideband_that_leaves_leaves_the_call_alone() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        sideband = stage.session.attach()
        stage.session.detach(sideband)
        stage.agent_says(ms=20)
        stage.play(40)
        assert stage.types()[-1] == "output_audio_buffer.stopped"
        assert stage.owner.told == []
        sideband.close(1000, "")
        assert len(await rest(sideband)) == 1
        await stage.session.close()

    virtual.run(scenario())


def test_a_plain_session_ends_with_its_last_client() -> None:
    async def scenario() -> None:
        stage = await Stage(on_call=False).open()
        first, last = stage.session.attach(), stage.session.attach()
        stage.session.detach(first)
        assert stage.owner.told == []
        stage.session.detach(last)
        assert stage.owner.told == ["abandoned"]
        await stage.session.close()

    virtual.run(scenario())


def test_who_comes_too_late_is_sent_away() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        await stage.session.close()
        late = stage.session.attach()
        assert await rest(late) == []
        assert late.close_code == 1000
        send(stage.session, late, HELLO)
        assert stage.model.orders == []

    virtual.run(scenario())


# Speaking and hearing


def test_the_greeting_is_spoken_first() -> None:
    async def scenario() -> None:
        stage = await Stage(greeting="Welcome to Acme.").open()
        stage.session.greet()
        (order,) = stage.model.orders
        assert order.instructions == "Greet the caller with these words: Welcome to Acme."
        stage.model.says("Welcome to Acme.", ms=100)
        stage.play(120)
        types = stage.types()
        assert types.index("output_audio_buffer.started") < types.index(
            "output_audio_buffer.stopped"
        )
        assert stage.model.agent_spoke == [True, False]
        await stage.session.close()

    virtual.run(scenario())


def test_the_caller_is_heard_by_the_model() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        assert stage.stream.on_frame is not None
        for _ in range(50):
            stage.stream.on_frame(tone(20))
        assert stage.model.heard_samples == 24_000
        stage.model.emits(SpeechStarted(100))
        stage.model.emits(SpeechStopped(900))
        (item_id,) = stage.model.transcribing
        stage.model.emits(TranscriptCompleted(item_id, "Good day", 0.8))
        (order,) = stage.model.orders
        stage.model.says("Good day to you.", ms=20)
        assert order.items[-1]["id"] == item_id
        assert stage.types()[1:5] == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
        ]
        await stage.session.close()

    virtual.run(scenario())


def test_looped_audio_is_played_without_a_response() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.model.emits(LoopAudio(tone(20)))
        frame = stage.playout.read()
        assert frame is not None
        assert np.array_equal(frame, tone(20))
        assert stage.types() == ["session.created"]
        await stage.session.close()

    virtual.run(scenario())


def test_looped_audio_of_a_held_call_is_not_kept_for_later() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.stream.held = True
        stage.model.emits(LoopAudio(tone(20)))
        stage.stream.held = False
        assert stage.playout.buffered_ms == 0
        stage.model.emits(LoopAudio(tone(20)))
        assert stage.playout.buffered_ms == 20
        await stage.session.close()

    virtual.run(scenario())


@pytest.mark.parametrize("hears", [True, False])
def test_a_key_is_a_turn_to_a_model_that_hears_keys(hears: bool) -> None:
    async def scenario() -> None:
        model = Puppet(capabilities=Capabilities(hears_dtmf=hears))
        stage = await Stage(model=model).open()
        stage.session.digit("5")
        assert stage.event("input_audio_buffer.dtmf_event_received")["event"] == "5"
        assert len(model.orders) == hears
        await stage.session.close()

    virtual.run(scenario())


def test_a_response_that_fails_is_told_and_the_session_goes_on() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.session.greet()
        response_id = stage.model.orders[-1].response_id
        stage.model.emits(ResponseFailed(response_id, "server_error", "out of words"))
        assert stage.event("response.done")["response"]["status"] == "failed"
        stage.agent_says(ms=20)
        assert len(stage.model.orders) == 2
        await stage.session.close()

    virtual.run(scenario())


def test_a_new_configuration_reaches_the_model() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        sideband = stage.session.attach()
        update = {"type": "session.update", "session": {"type": "realtime", "instructions": "Hum."}}
        send(stage.session, sideband, update)
        await until(sideband, "session.updated")
        assert stage.model.config["instructions"] == stage.session.config.instructions == "Hum."
        await stage.session.close()

    virtual.run(scenario())


# The end


def test_close_ends_every_story_and_then_every_client() -> None:
    async def scenario() -> None:
        live, cuts = total(metrics.sessions_live), total(metrics.barge_ins)
        stage = await Stage().open()
        sideband = stage.session.attach()
        stage.agent_says(ms=2000, done=False)
        stage.play(300)
        await stage.session.close("remote_hangup")
        types = [json.loads(text)["type"] for text in await rest(sideband)]
        assert types[-1] == "response.done"
        assert types.count("response.done") == types.count("response.created") == 1
        assert types.count("output_audio_buffer.cleared") == 1
        assert stage.event("conversation.item.truncated")["audio_end_ms"] == 300
        assert (sideband.close_code, sideband.close_reason) == (1000, "remote_hangup")
        assert stage.model.closed == 1
        assert stage.stream.on_frame is None
        assert stage.playout.idle

        await stage.session.close()
        stage.model.emits(SpeechStarted(0))
        assert stage.model.closed == 1
        assert total(metrics.sessions_live) == live
        assert total(metrics.barge_ins) == cuts

    virtual.run(scenario())


def test_an_expired_session_says_so_and_leaves() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        sideband = stage.session.attach()
        stage.session.expire(3600)
        assert stage.owner.told == ["expired"]
        last = json.loads((await rest(sideband))[-1])
        assert (last["type"], last["error"]["code"]) == ("error", "session_expired")
        assert "60 minutes" in last["error"]["message"]
        assert sideband.close_code == 1001
        await stage.session.close()
        assert sideband.close_code == 1001

    virtual.run(scenario())


def test_a_model_that_cannot_be_reached_is_closed_and_not_counted() -> None:
    async def scenario() -> None:
        live = total(metrics.sessions_live)
        model = Puppet(failure=BackendError("no model"))
        stage = Stage(model=model)
        with pytest.raises(BackendError):
            await stage.open()
        assert model.closed == 1
        assert total(metrics.sessions_live) == live

    virtual.run(scenario())


def test_extra_events_are_for_the_sidebands_that_asked() -> None:
    async def scene() -> None:
        stage = Stage()
        # No leg has joined.
        await stage.session.start()
        plain, asking = stage.session.attach(), stage.session.attach(extras=True)
        stage.session.digit("5")
        stage.session.transport_event("transport.held")
        send(stage.session, asking, {"type": "transport.dtmf.send", "event": "1"})
        await stage.session.close("remote_hangup")
        told = [json.loads(text) for text in await rest(asking)]
        assert [event["type"] for event in told] == [
            "session.created",
            "input_audio_buffer.dtmf_event_received",
            "transport.dtmf.received",
            "transport.held",
            "error",
            "transport.ended",
        ]
        assert told[4]["error"]["code"] == "dtmf_not_available"
        assert told[5]["reason"] == "remote_hangup"
        assert len(await rest(plain)) == 2

    virtual.run(scene())


class KeyedStream(AudioStream):
    """A stream that can press keys."""

    def __init__(self) -> None:
        super().__init__(PCMU, payload_type=0, wire=Wire(), cname="test")
        self.pressed: list[str] = []

    def send_digits(self, digits: str, *, tone_ms: int = 100, pause_ms: int = 100) -> None:
        if len("".join(self.pressed) + digits) > 4:
            raise ValueError
        self.pressed.append(digits)


def test_keys_are_pressed_where_the_stream_can() -> None:
    async def scene() -> None:
        stage = await Stage().open()
        stream = KeyedStream()
        stage.session.connect(stream)
        asking = stage.session.attach(extras=True)
        send(stage.session, asking, {"type": "transport.dtmf.send", "event": "1#"})
        assert stream.pressed == ["1#"]
        assert (await until(asking, "transport.dtmf.sent"))[-1] == "transport.dtmf.sent"
        send(stage.session, asking, {"type": "transport.dtmf.send", "event": "123"})
        text = await asking.next()
        assert json.loads(text or "")["error"]["code"] == "dtmf_busy"
        await stage.session.close()

    virtual.run(scene())


def test_silence_after_the_answer_asks_again() -> None:
    waits = {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000}}

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        stage = await Stage(session={"audio": {"input": waits}}).open()
        stage.agent_says(ms=1_000)
        stage.play(1_020)
        begun = loop.time()
        while len(stage.model.orders) < 2:
            await virtual.wait(0.1)
        assert loop.time() - begun == pytest.approx(5.0, abs=0.2)
        assert stage.event("input_audio_buffer.timeout_triggered")
        stage.model.says("Are you there?", ms=100)
        stage.play(120)
        await stage.session.close()
        await virtual.wait(10.0)
        assert len(stage.model.orders) == 2

    virtual.run(scene())


class Listener(Puppet):
    """A model that wants to hear what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0

    def played(self, pcm: Pcm, /) -> None:
        self.heard += len(pcm)


def test_a_model_that_hears_itself_is_told_what_leaves() -> None:
    async def use() -> None:
        model = Listener()
        stage = await Stage(model=model).open()
        stage.playout.write("", tone(40))
        stage.playout.read()
        assert model.heard == 480
        await stage.session.close()
        stage.playout.read()
        assert model.heard == 480

    asyncio.run(use())


def test_how_long_an_answer_took_is_told_with_the_way_to_the_model() -> None:
    async def use() -> None:
        stage = await Stage().open()
        stage.model.emits(SpeechStarted(0))
        stage.model.emits(SpeechStopped(500))
        stage.model.emits(TurnTimed({"endpointing_ms": 500.0, "total_ms": 500.0}))
        (record,) = stage.owner.turns
        assert record == {"endpointing_ms": 500.0, "line_ms": 2.5, "total_ms": 502.5}
        await stage.session.close()

    asyncio.run(use())


def test_a_model_may_hold_what_is_heard() -> None:
    async def use() -> None:
        stage = await Stage().open()
        told = len(stage.events)
        stage.model.emits(HoldPlayout(held=True))
        assert stage.playout.paused
        stage.model.emits(HoldPlayout(held=False))
        assert not stage.playout.paused
        assert len(stage.events) == told
        await stage.session.close()

    asyncio.run(use())


def test_an_aside_is_heard_and_nobody_is_told() -> None:
    async def use() -> None:
        stage = await Stage().open()
        told = len(stage.events)
        stage.model.emits(Aside(tone(40)))
        assert stage.playout.buffered_ms == 40
        stage.model.emits(Aside(tone(0)))
        assert stage.playout.idle
        stage.model.emits(Aside(tone(40)))
        stage.play(100)
        assert stage.playout.idle
        assert len(stage.events) == told
        await stage.session.close()

    asyncio.run(use())

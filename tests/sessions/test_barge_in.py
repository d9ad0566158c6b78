"""The caller speaks over the model, and the model hangs up unless it does."""

import pytest

from bridge import metrics
from bridge.backends.base import (
    AudioDelta,
    CallAction,
    Generate,
    ResponseFinished,
    SpeechStarted,
    TextDelta,
)
from bridge.media.playout import FADE
from tests import virtual
from tests.backends.puppet import Puppet, tone
from tests.sessions.stage import Stage, total

# Barge-in


def test_a_barge_in_silences_the_wire_and_tells_what_was_heard() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        cuts = total(metrics.barge_ins)
        response_id = stage.agent_says(ms=2000, done=False)
        stage.play(700)
        stage.types()
        silent_at: dict[str, bool] = {}
        stage.at_event = lambda kind: silent_at.update({kind: stage.playout.idle})
        stage.model.emits(SpeechStarted(0))
        assert stage.event("conversation.item.truncated")["audio_end_ms"] == 700
        done = stage.event("response.done")["response"]
        assert (done["id"], done["status"]) == (response_id, "cancelled")
        assert done["status_details"]["reason"] == "turn_detected"
        types = stage.types()
        assert types[:3] == [
            "input_audio_buffer.speech_started",
            "output_audio_buffer.cleared",
            "conversation.item.truncated",
        ]
        assert types[-1] == "response.done"
        assert silent_at["output_audio_buffer.cleared"]
        fading = stage.playout.read()
        assert fading is None or not fading[FADE:].any()
        assert stage.playout.read() is None
        assert stage.model.cancelled == [response_id]
        assert stage.model.agent_spoke == [True, False]
        assert total(metrics.barge_ins) == cuts + 1
        await stage.session.close()

    virtual.run(scenario())


def test_a_barge_in_after_the_model_is_done_cuts_what_still_plays() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.agent_says(ms=2000)
        stage.play(500)
        stage.types()
        stage.model.emits(SpeechStarted(0))
        assert stage.types() == [
            "input_audio_buffer.speech_started",
            "output_audio_buffer.cleared",
            "conversation.item.truncated",
        ]
        assert stage.model.cancelled == []
        await stage.session.close()

    virtual.run(scenario())


def test_what_a_cancelled_model_still_says_is_not_heard() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        response_id = stage.agent_says(done=False)
        stage.play(200)
        stage.model.emits(SpeechStarted(0))
        stage.types()
        stage.model.emits(TextDelta(response_id, "and another thing"))
        stage.model.emits(AudioDelta(response_id, tone(500)))
        stage.model.emits(ResponseFinished(response_id))
        assert stage.types() == []
        assert stage.playout.idle
        await stage.session.close()

    virtual.run(scenario())


def test_clearing_an_idle_playout_does_nothing() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.types()
        stage.session.receive(stage.channel, '{"type": "output_audio_buffer.clear"}')
        assert stage.types() == []
        stage.agent_says(ms=1000)
        stage.play(300)
        stage.types()
        stage.session.receive(stage.channel, '{"type": "output_audio_buffer.clear"}')
        assert stage.types() == ["output_audio_buffer.cleared", "conversation.item.truncated"]
        await stage.session.close()

    virtual.run(scenario())


# The model hangs up


def test_the_model_hangs_up_once_its_last_word_was_played() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.session.greet()
        response_id = stage.model.says("Goodbye.", ms=400, done=False)
        stage.model.emits(CallAction(response_id))
        stage.model.emits(ResponseFinished(response_id))
        stage.play(380)
        await virtual.wait(10)
        assert stage.owner.told == []
        stage.play(40)
        await virtual.wait(0.05)
        assert stage.owner.told == []
        await virtual.wait(0.05)
        assert stage.owner.told == ["hangup"]
        await stage.session.close()

    virtual.run(scenario())


class Curt(Puppet):
    """Says all it has to say while it is being asked."""

    def generate(self, request: Generate) -> None:
        super().generate(request)
        self.emits(CallAction(request.response_id))
        self.says("Goodbye.", ms=400)


def test_a_model_that_answers_at_once_is_heard_out() -> None:
    async def scenario() -> None:
        stage = await Stage(model=Curt()).open()
        stage.session.greet()
        await virtual.wait(10)
        assert stage.owner.told == []
        stage.play(420)
        await virtual.wait(1)
        assert stage.owner.told == ["hangup"]
        await stage.session.close()

    virtual.run(scenario())


def test_the_model_hangs_up_without_a_word() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.session.greet()
        response_id = stage.model.orders[-1].response_id
        stage.model.emits(CallAction(response_id))
        await virtual.wait(1)
        assert stage.owner.told == []
        stage.model.emits(ResponseFinished(response_id))
        await virtual.wait(1)
        assert stage.owner.told == ["hangup"]
        await stage.session.close()

    virtual.run(scenario())


@pytest.mark.parametrize("played_ms", [0, 200])
@pytest.mark.parametrize("done", [True, False])
def test_a_caller_who_interrupts_the_farewell_is_not_hung_up_on(played_ms: int, done: bool) -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.session.greet()
        response_id = stage.model.says("Goodbye.", ms=400, done=False)
        stage.model.emits(CallAction(response_id))
        if done:
            stage.model.emits(ResponseFinished(response_id))
        stage.play(played_ms)
        stage.model.emits(SpeechStarted(0))
        await virtual.wait(10)
        assert stage.owner.told == []
        await stage.session.close()

    virtual.run(scenario())


def test_a_farewell_interrupted_before_its_first_sound_does_not_hang_up() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        stage.session.greet()
        response_id = stage.model.orders[-1].response_id
        stage.model.emits(CallAction(response_id))
        stage.model.emits(SpeechStarted(0))
        assert stage.model.cancelled == [response_id]
        await virtual.wait(10)
        assert stage.owner.told == []
        await stage.session.close()

    virtual.run(scenario())


def test_a_session_that_is_closed_does_not_hang_up() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        response_id = stage.agent_says("Goodbye.", ms=20, done=False)
        stage.model.emits(CallAction(response_id))
        stage.model.emits(ResponseFinished(response_id))
        stage.play(40)
        await stage.session.close()
        await virtual.wait(10)
        assert stage.owner.told == []

    virtual.run(scenario())

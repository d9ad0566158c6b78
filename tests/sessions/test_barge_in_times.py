"""How soon a caller gets silence, as the session tells it: from packets that the playout gave."""

from collections.abc import Mapping
from typing import Any

from bridge import metrics
from bridge.backends.base import Capabilities, HoldPlayout, SpeechStarted
from bridge.load import LOAD
from tests import virtual
from tests.backends.puppet import Puppet, tone
from tests.sessions.stage import Stage, total

PREFIX_MS = 300


class Told:
    def __init__(self, stage: Stage) -> None:
        self.records: list[Mapping[str, Any]] = []
        stage.owner.session_barge_in = self.records.append  # type: ignore[assignment,method-assign]


def hear(stage: Stage, ms: int) -> None:
    assert stage.stream.on_frame is not None
    for _ in range(ms // 20):
        stage.stream.on_frame(tone(20))


def test_from_the_decision_and_from_the_voice_to_the_last_old_packet() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        told = Told(stage)
        cuts = total(metrics.barge_ins)
        hear(stage, 1000)
        stage.agent_says(ms=2000, done=False)
        stage.play(700)
        # Of 1 s that was heard, the last 160 ms are voice.
        stage.model.emits(SpeechStarted(1000 - 160 - PREFIX_MS))
        await virtual.wait(0.013)
        stage.play(20)
        await virtual.wait(0.02)
        stage.play(20)
        (record,) = told.records
        assert 13 <= record["decision_ms"] < 36
        assert round(record["onset_ms"] - record["decision_ms"]) == 160
        assert total(metrics.barge_ins) == cuts + 1
        await stage.session.close()

    virtual.run(scenario())


def test_what_waits_for_more_was_heard_all_the_same() -> None:
    async def scenario() -> None:
        stage = await Stage(model=Puppet(capabilities=Capabilities(patient=True))).open()
        told = Told(stage)
        LOAD.high = True
        try:
            for _ in range(48):
                stage.stream.deliver(tone(20))
            assert stage.stream.gathered_ms > 0
            assert stage.model.heard_samples == (960 - stage.stream.gathered_ms) * 24
            stage.agent_says(ms=2000, done=False)
            stage.play(700)
            stage.model.emits(SpeechStarted(960 - 160 - PREFIX_MS))
        finally:
            LOAD.forget()
        stage.play(40)
        (record,) = told.records
        assert round(record["onset_ms"] - record["decision_ms"]) == 160
        await stage.session.close()

    virtual.run(scenario())


def test_a_client_that_cuts_has_no_voice() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        told = Told(stage)
        stage.model.emits(SpeechStarted(0))
        await virtual.wait(1)
        stage.agent_says(ms=2000)
        stage.play(300)
        stage.session.receive(stage.channel, '{"type": "output_audio_buffer.clear"}')
        stage.play(40)
        assert [record["onset_ms"] for record in told.records] == [None]
        await stage.session.close()

    virtual.run(scenario())


def test_the_end_of_a_call_is_no_barge_in() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        told = Told(stage)
        cuts = total(metrics.barge_ins)
        stage.agent_says(ms=2000)
        stage.play(300)
        await stage.session.close()
        stage.play(100)
        assert told.records == []
        assert total(metrics.barge_ins) == cuts

    virtual.run(scenario())


def test_a_pause_is_where_the_silence_began() -> None:
    async def scenario() -> None:
        stage = await Stage().open()
        told = Told(stage)
        hear(stage, 1000)
        stage.agent_says(ms=2000, done=False)
        stage.play(700)
        # One that is taken back, and one that is not.
        stage.model.emits(HoldPlayout(held=True))
        stage.play(60)
        stage.model.emits(HoldPlayout(held=False))
        stage.play(200)
        await virtual.wait(1)
        hear(stage, 100)
        stage.model.emits(HoldPlayout(held=True))
        await virtual.wait(0.01)
        stage.play(40)
        await virtual.wait(0.3)
        hear(stage, 300)
        stage.model.emits(SpeechStarted(1400 - 400 - PREFIX_MS))
        (record,) = told.records
        assert 10 <= record["decision_ms"] < 30
        assert round(record["onset_ms"] - record["decision_ms"]) == 400 - 310
        await stage.session.close()

    virtual.run(scenario())

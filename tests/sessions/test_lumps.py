import json

import numpy as np
import pytest

from bridge.backends.base import Capabilities, Pcm
from bridge.load import LOAD
from tests import virtual
from tests.backends.puppet import Puppet
from tests.sessions.stage import Stage

VOICE = np.full(480, 5000, np.int16)
PATIENT = Capabilities(turn_detection=frozenset({"server_vad"}), patient=True)


class Counts(Puppet):
    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities=capabilities)
        self.came: list[int] = []

    def push_audio(self, pcm: Pcm) -> None:
        super().push_audio(pcm)
        self.came.append(len(pcm) // 480)


async def talks(stage: Stage) -> int:
    """The most that came at once of 60 frames, all of which came but for what may wait."""
    assert isinstance(stage.model, Counts)
    LOAD.high = True
    try:
        stage.model.came.clear()
        for _ in range(60):
            stage.stream.deliver(VOICE)
    finally:
        LOAD.forget()
    assert 56 <= sum(stage.model.came) <= 60
    return max(stage.model.came)


@pytest.mark.parametrize(("patient", "most"), [(True, 5), (False, 1)])
def test_a_patient_model_gets_more_at_once(patient: bool, most: int) -> None:
    async def scenario() -> None:
        model = Counts(PATIENT if patient else Capabilities())
        stage = await Stage(model=model).open()
        assert await talks(stage) == most
        await stage.session.close()

    virtual.run(scenario())


def test_clients_who_commit_themselves_have_every_frame_there() -> None:
    async def scenario() -> None:
        by_hand = {"audio": {"input": {"turn_detection": None}}}
        stage = await Stage(model=Counts(PATIENT), session=by_hand).open()
        assert await talks(stage) == 1
        by_itself = {"input": {"turn_detection": {"type": "server_vad"}}}
        update = {"type": "session.update", "session": {"type": "realtime", "audio": by_itself}}
        stage.session.receive(stage.channel, json.dumps(update))
        assert await talks(stage) == 5
        await stage.session.close()

    virtual.run(scenario())


def test_what_waits_is_heard_before_what_a_client_says() -> None:
    async def scenario() -> None:
        stage = await Stage(model=Counts(PATIENT)).open()
        LOAD.high = True
        try:
            for _ in range(48):
                stage.stream.deliver(VOICE)
            assert stage.model.heard_samples < 48 * 480
            stage.session.receive(stage.channel, '{"type": "input_audio_buffer.clear"}')
            assert stage.model.heard_samples == 48 * 480
        finally:
            LOAD.forget()
        await stage.session.close()

    virtual.run(scenario())


def test_whose_voice_is_recorded_here_is_heard_frame_by_frame() -> None:
    class Taker:
        frames = 0

        def hear(self, pcm: Pcm, /) -> None:
            self.frames += 1

        def speech_started(self) -> None: ...

        def speech_stopped(self) -> None: ...

    async def scenario() -> None:
        stage = await Stage(model=Counts(PATIENT)).open()
        taker = Taker()
        stage.session._diversion.begin(taker)
        assert await talks(stage) == 1
        assert taker.frames == 60
        stage.session.message_over("[message taken]")
        assert await talks(stage) == 5
        await stage.session.close()

    virtual.run(scenario())

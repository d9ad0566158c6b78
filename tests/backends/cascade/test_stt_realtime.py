"""Utterances by WebSocket, to a server that refuses what the Realtime API refuses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from openai.types.realtime import RealtimeTranscriptionSessionCreateRequest

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.settings import SttSettings
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.backends.cascade.stt_realtime import RealtimeSpeechToText
from bridge.backends.weighed import weights
from bridge.errors import BackendError
from tests.peers.models import Fault, ModelServers, tone


def with_recogniser(
    server: ModelServers,
    use: Callable[[RealtimeSpeechToText], Awaitable[None]],
    *,
    timeout_s: float = 5.0,
    query: str = "",
) -> None:
    async def run() -> None:
        settings = SttSettings(
            kind="openai-realtime",
            base_url=server.base_url + query,
            api_key="sesame",
            model="gpt-4o-transcribe",
            timeout_s=timeout_s,
        )
        recogniser = RealtimeSpeechToText(settings)
        try:
            await use(recogniser)
        finally:
            await recogniser.close()

    asyncio.run(run())


def spoken() -> Pcm:
    return np.concatenate((tone(1.0, MODEL_RATE), np.zeros(MODEL_RATE // 2, np.int16)))


def words_of(server: ModelServers, timeout_s: float = 5.0) -> list[str]:
    heard: list[str] = []

    async def use(recogniser: RealtimeSpeechToText) -> None:
        heard.append(await recogniser.transcribe(spoken(), Hints(("sales",)), Wanted("en")))

    with_recogniser(server, use, timeout_s=timeout_s)
    return heard


def test_a_whole_utterance() -> None:
    with ModelServers() as server:
        assert words_of(server) == ["what time do you open"]
        (asked,) = server.asked
    assert asked.authorization == "Bearer sesame"
    assert asked.fields["intent"] == "transcription"
    session = RealtimeTranscriptionSessionCreateRequest.model_validate(asked.fields["session"])
    assert session.audio is not None
    assert session.audio.input is not None
    assert session.audio.input.turn_detection is None
    transcription = session.audio.input.transcription
    assert transcription is not None
    assert (transcription.model, transcription.language) == ("gpt-4o-transcribe", "en")
    assert transcription.prompt == "sales"
    assert len(asked.sound) == len(spoken())
    assert asked.voiced_s == pytest.approx(1.0, abs=0.05)


def test_words_come_while_the_caller_speaks() -> None:
    async def use(recogniser: RealtimeSpeechToText) -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        utterance = recogniser.listen(Wanted(), told.put_nowait)
        for begin in range(0, MODEL_RATE, 480):
            utterance.push(spoken()[begin : begin + 480])
        async with asyncio.timeout(5):
            assert [await told.get() for _ in range(3)] == ["what", " time", " do"]
            assert await utterance.finish() == "what time do you open"
        assert [told.get_nowait() for _ in range(2)] == [" you", " open"]

    with ModelServers() as server:
        with_recogniser(server, use)


def test_how_sure_it_is_of_pieces_and_of_all() -> None:
    pieces: list[str] = []
    whole: list[str] = []

    async def use(recogniser: RealtimeSpeechToText) -> None:
        utterance = recogniser.listen(Wanted(logprobs=True), pieces.append)
        utterance.push(spoken())
        whole.append(await utterance.finish())

    with ModelServers() as server:
        with_recogniser(server, use)
        (asked,) = server.asked
    session = RealtimeTranscriptionSessionCreateRequest.model_validate(asked.fields["session"])
    assert session.include == ["item.input_audio_transcription.logprobs"]
    assert weights(pieces)[1] == {"token": " time", "logprob": -0.25, "bytes": list(b" time")}
    assert weights(pieces) == weights(whole) != ()


def test_an_utterance_nobody_wants_leaves_no_connection() -> None:
    async def use(recogniser: RealtimeSpeechToText) -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        utterance = recogniser.listen(Wanted(), told.put_nowait)
        utterance.push(spoken())
        async with asyncio.timeout(5):
            await told.get()
            assert server.open == 1
            utterance.abandon()
            utterance.abandon()
            while server.open:
                await asyncio.to_thread(server.closed.wait, 1)

    with ModelServers() as server:
        with_recogniser(server, use)
        assert server.open == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(Fault.REFUSES), "the speech recogniser cannot be used: .*403"),
        (Fault(Fault.STALLS), "the speech recogniser did not answer in time"),
        (Fault(Fault.BREAKS), "the speech recogniser broke off"),
        (Fault(Fault.BABBLES), "the speech recogniser sent no event"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_a_failure_says_what_happened(fault: Fault, message: str) -> None:
    with ModelServers() as server:
        server.knobs.faults["realtime"].append(fault)
        with pytest.raises(BackendError, match=message):
            words_of(server, 0.5)


def test_a_server_that_is_not_there() -> None:
    with ModelServers() as server:
        pass
    with pytest.raises(BackendError, match="cannot be reached"):
        words_of(server)


def test_what_the_server_says_against_it_is_told() -> None:
    async def use(recogniser: RealtimeSpeechToText) -> None:
        with pytest.raises(BackendError, match="You must not provide a model parameter"):
            await recogniser.transcribe(spoken(), None)

    with ModelServers() as server:
        with_recogniser(server, use, query="?model=whisper-1")


def test_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), ModelServers() as server:
        words_of(server)
    assert "sesame" not in caplog.text

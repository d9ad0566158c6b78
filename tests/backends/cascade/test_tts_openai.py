"""A voice by HTTP: PCM as it is streamed, whatever the server makes of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.settings import TtsSettings
from bridge.backends.cascade.tts import Word
from bridge.backends.cascade.tts_openai import HttpTextToSpeech
from bridge.errors import BackendError
from tests.peers.models import CHARACTER_S, TONE_HZ, Fault, ModelServers

TEXT = "We are open from nine to five."


def with_voice(
    server: ModelServers, use: Callable[[HttpTextToSpeech], Awaitable[None]], **settings: Any
) -> None:
    async def run() -> None:
        given = {"base_url": server.base_url, "api_key": "sesame", "model": "tts-1"} | settings
        voice = HttpTextToSpeech(TtsSettings(kind="openai", **given))
        try:
            await use(voice)
        finally:
            await voice.close()

    asyncio.run(run())


def sound_of(server: ModelServers, *, settings: dict[str, Any], **options: Any) -> Pcm:
    pieces: list[Pcm] = []

    async def use(voice: HttpTextToSpeech) -> None:
        pieces.extend([pcm async for pcm in voice.speak(TEXT, **options)])

    with_voice(server, use, **settings)
    assert all(piece.dtype == np.int16 for piece in pieces)
    return np.concatenate(pieces)


def pitch(sound: Pcm) -> float:
    spectrum = np.abs(np.fft.rfft(sound[:MODEL_RATE]))
    return float(np.argmax(spectrum)) * MODEL_RATE / len(sound[:MODEL_RATE])


@pytest.mark.parametrize(
    ("rate", "kind", "header", "told"),
    [
        (24_000, "audio/pcm", False, {}),
        (24_000, "application/octet-stream", False, {}),
        (16_000, "audio/pcm;rate=16000", False, {}),
        (22_050, "audio/pcm", False, {"sample_rate": 22_050}),
        (16_000, "audio/wav", True, {}),
    ],
)
def test_the_sound_comes_at_the_models_rate(
    rate: int, kind: str, header: bool, told: dict[str, Any]
) -> None:
    with ModelServers() as server:
        server.knobs.sound_rate, server.knobs.sound_type = rate, kind
        server.knobs.sound_header = header
        sound = sound_of(server, settings=told)
    assert len(sound) == pytest.approx(CHARACTER_S * len(TEXT) * MODEL_RATE, rel=0.01)
    assert pitch(sound) == pytest.approx(TONE_HZ, abs=2)
    assert 7000 < int(np.abs(sound).max()) < 9500


def test_what_the_server_is_asked() -> None:
    with ModelServers() as server:
        sound_of(server, settings={})
        sound_of(server, settings={}, voice="shimmer", speed=1.25)
        sound_of(server, settings={"voice": "anna"}, voice="shimmer")
        sound_of(server, settings={"voice": "anna"}, voice="otto")
        first, second, third, fourth = [asked.fields for asked in server.asked]
        assert server.asked[0].authorization == "Bearer sesame"
    plain = {"model": "tts-1", "input": TEXT, "response_format": "pcm"}
    assert first == plain | {"voice": "alloy"}
    assert second == plain | {"voice": "shimmer", "speed": 1.25}
    assert third == plain | {"voice": "anna"}
    assert fourth == plain | {"voice": "otto"}


def test_sound_comes_before_the_rest_is_made() -> None:
    async def use(voice: HttpTextToSpeech) -> None:
        async with asyncio.timeout(5), aclosing(voice.speak(TEXT)) as pieces:
            assert len(await anext(pieces))
            assert server.open == 1

    with ModelServers() as server:
        server.knobs.sound_pace = 0.01
        with_voice(server, use)


def test_a_voice_that_is_stopped_lets_go_of_the_server() -> None:
    async def use(voice: HttpTextToSpeech) -> None:
        async with asyncio.timeout(5):
            async with aclosing(voice.speak(TEXT)) as pieces:
                await anext(pieces)
            while server.open:
                await asyncio.to_thread(server.closed.wait, 1)

    with ModelServers() as server:
        server.knobs.sound_pace = 5.0
        with_voice(server, use)
        assert server.open == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(Fault.REFUSES, 429), "the voice answered 429"),
        (Fault(Fault.STALLS), "the voice did not answer in time"),
        (Fault(Fault.BREAKS), "the voice cannot be reached"),
        (Fault(Fault.BABBLES), "the voice sent text/html, not sound"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_a_failure_says_what_happened(fault: Fault, message: str) -> None:
    with ModelServers() as server:
        server.knobs.faults["speech"].append(fault)
        with pytest.raises(BackendError, match=message):
            sound_of(server, settings={"timeout_s": 0.5})


@pytest.mark.parametrize("how", ["sse", "captioned_speech"])
def test_a_voice_tells_when_it_speaks_each_word(how: str) -> None:
    words: list[Word] = []

    with ModelServers() as server:
        server.knobs.word_s = lambda word: len(word) / 20
        sound = sound_of(server, settings={"words": how}, on_words=words.extend)
        (asked,) = server.asked
    assert asked.fields.get("stream_format") == ("sse" if how == "sse" else None)
    said = [word for word in words if word.text != "."]
    assert [word.text for word in said] == TEXT.rstrip(".").split()
    for word in said:
        begin, end = (round(at * MODEL_RATE) for at in (word.begin_s, word.end_s))
        assert np.abs(sound[begin : begin + 100]).max() > 1000
        assert np.abs(sound[end + 1 : end + 100]).max() == 0


@pytest.mark.parametrize("how", ["sse", "captioned_speech"])
def test_words_may_be_left_untold(how: str) -> None:
    with ModelServers() as server:
        server.knobs.timestamps = False
        sound = sound_of(server, settings={"words": how}, on_words=pytest.fail)
    assert len(sound) / MODEL_RATE == pytest.approx(CHARACTER_S * len(TEXT), rel=0.01)


@pytest.mark.parametrize("kind", [Fault.BREAKS, Fault.BABBLES, Fault.REFUSES])
@pytest.mark.parametrize("how", ["sse", "captioned_speech"])
def test_a_voice_with_words_that_fails_says_so(how: str, kind: str) -> None:
    with ModelServers() as server:
        server.knobs.faults["speech"].append(Fault(kind))
        with pytest.raises(BackendError):
            sound_of(server, settings={"words": how})

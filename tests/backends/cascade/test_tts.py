import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import numpy as np
import pytest

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade import tts
from bridge.backends.cascade.tts import EspeakVoice
from bridge.errors import BackendError


def with_voice(use: Callable[[EspeakVoice], Awaitable[None]]) -> None:
    async def run() -> None:
        voice = EspeakVoice()
        await voice.start()
        try:
            await use(voice)
        finally:
            await voice.close()

    asyncio.run(run())


async def said(voice: EspeakVoice, text: str, name: str = "", speed: float = 1.0) -> Pcm:
    pieces = [piece async for piece in voice.speak(text, voice=name, speed=speed)]
    return np.concatenate(pieces) if pieces else np.empty(0, np.int16)


def alike(one: Pcm, other: Pcm) -> bool:
    """espeak-ng varies a little from time to time: compare the envelopes, in steps of 50 ms."""
    step = MODEL_RATE // 20
    length = min(len(one), len(other)) // step * step
    envelopes = [
        np.abs(pcm[:length].astype(float)).reshape(-1, step).mean(1) for pcm in (one, other)
    ]
    lengths_match = abs(len(one) - len(other)) < step
    return bool(lengths_match and np.corrcoef(envelopes)[0, 1] > 0.95)


def test_a_sentence_is_heard_at_speech_level() -> None:
    async def use(voice: EspeakVoice) -> None:
        sound = await said(voice, "Hello, this is an automatic receptionist.")
        assert 1.5 < len(sound) / MODEL_RATE < 4.0
        voiced = sound[np.abs(sound) > 300].astype(np.float64)
        level = 20 * np.log10(np.sqrt(np.mean(voiced**2)) / 32768)
        assert -24 < level < -16

    with_voice(use)


def test_voices_and_speeds_differ() -> None:
    async def use(voice: EspeakVoice) -> None:
        plain = await said(voice, "One two three.")
        assert not alike(await said(voice, "One two three.", "en-gb"), plain)
        assert alike(await said(voice, "One two three.", "alloy"), plain)
        assert len(await said(voice, "One two three.", speed=1.5)) < len(plain)

    with_voice(use)


def test_every_voice_named_is_there() -> None:
    async def use(voice: EspeakVoice) -> None:
        for name in ("alloy", "en-gb", "en-us", *tts.OPENAI_VOICES):
            assert len(await said(voice, "Yes.", name)) > 0, name

    with_voice(use)


def test_an_abandoned_sentence_does_not_sound_in_the_next() -> None:
    async def use(voice: EspeakVoice) -> None:
        plain = await said(voice, "Yes.")
        async with aclosing(voice.speak("A very long sentence, " * 40)) as pieces:
            async for _ in pieces:
                break
        assert alike(await said(voice, "Yes."), plain)

    with_voice(use)


def test_a_voice_that_does_not_exist_is_silent() -> None:
    async def use(voice: EspeakVoice) -> None:
        assert len(await said(voice, "Yes.", "xx-yy")) == 0
        assert len(await said(voice, "Yes.")) > 0

    with_voice(use)


def test_a_dead_voice_fails_the_sentence_and_comes_back() -> None:
    async def use(voice: EspeakVoice) -> None:
        assert voice.worker.pid is not None
        os.kill(voice.worker.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="the voice failed"):
            await said(voice, "Yes. " * 200)
        assert len(await said(voice, "Yes.")) > 0

    with_voice(use)


def test_a_sentence_is_told_word_by_word_with_its_sound() -> None:
    async def use(voice: EspeakVoice) -> None:
        text = "Hello, this is the workshop. We close at nine."
        words: list[tts.Word] = []
        before_s = spoken_s = 0.0
        async for pcm in voice.speak(text, on_words=words.extend):
            before_s, spoken_s = spoken_s, spoken_s + len(pcm) / MODEL_RATE
            assert words[-1].begin_s <= spoken_s + 0.1
        assert " ".join(word.text for word in words) == re.sub(r"[.,]", "", text)
        begins = [word.begin_s for word in words]
        assert begins == sorted(set(begins))
        assert begins[0] == 0.0
        assert 0 < spoken_s - begins[-1] < 1.0
        assert before_s

    with_voice(use)

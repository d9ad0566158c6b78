import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from bridge.audio.g711 import ulaw_decode, ulaw_encode
from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade import stt
from bridge.backends.cascade.stt import Hints, PocketSphinx
from bridge.backends.cascade.stt_program import QUIET, prepare
from bridge.backends.cascade.tts import EspeakVoice
from bridge.errors import BackendError, OverloadedError

MENU = Hints(("sales", "support", "opening hours", "leave a message", "goodbye"))
PAUSE = np.zeros(MODEL_RATE // 4, np.int16)

Say = Callable[[str, str], Awaitable[Pcm]]


def with_recogniser(use: Callable[[PocketSphinx, Say], Awaitable[None]]) -> None:
    """`use` gets a recogniser and a caller on a telephone."""

    async def run() -> None:
        recogniser, voice = PocketSphinx(), EspeakVoice()
        await recogniser.start()

        async def say(text: str, name: str) -> Pcm:
            pieces = [piece async for piece in voice.speak(text, voice=name)]
            narrow = Resampler(MODEL_RATE, 8000).process(np.concatenate((PAUSE, *pieces, PAUSE)))
            return Resampler(8000, MODEL_RATE).process(ulaw_decode(ulaw_encode(narrow)))

        try:
            await use(recogniser, say)
        finally:
            await recogniser.close()
            await voice.close()

    asyncio.run(run())


def test_the_menu_is_heard_over_a_telephone() -> None:
    async def use(recogniser: PocketSphinx, say: Say) -> None:
        for phrase in MENU.phrases:
            for voice in ("en-gb", "en-us", "en-gb-scotland", "en-us+f3"):
                heard = await recogniser.transcribe(await say(phrase, voice), MENU)
                assert heard == phrase, voice

    with_recogniser(use)


def test_words_that_fill_a_recording_get_quiet_around_them() -> None:
    tone = 8000 * np.sin(2 * np.pi * 300 * np.arange(MODEL_RATE) / MODEL_RATE)
    speech = np.frombuffer(prepare(tone.astype(np.int16)), np.int16)
    assert np.abs(speech[:QUIET]).max() < 1000
    assert np.abs(speech[-QUIET:]).max() < 1000
    assert np.abs(speech[QUIET : QUIET + 800]).max() > 8000


def test_silence_noise_and_open_questions_have_no_words() -> None:
    async def use(recogniser: PocketSphinx, say: Say) -> None:
        assert await recogniser.transcribe(np.empty(0, np.int16), MENU) == ""
        assert await recogniser.transcribe(np.zeros(MODEL_RATE, np.int16), MENU) == ""
        hiss = np.random.default_rng(1).normal(0, 10, MODEL_RATE).astype(np.int16)
        assert await recogniser.transcribe(hiss, MENU) == ""
        click = np.zeros(MODEL_RATE, np.int16)
        click[500:510] = 9000
        assert await recogniser.transcribe(click, MENU) == ""
        assert await recogniser.transcribe(await say("sales", "en-gb"), Hints()) == ""

    with_recogniser(use)


def test_words_without_a_pronunciation_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def use(recogniser: PocketSphinx, say: Say) -> None:
        hints = Hints(("xyzzyq", "goodbye"))
        goodbye = await say("goodbye", "en-gb")
        assert await recogniser.transcribe(goodbye, hints) == "goodbye"
        assert await recogniser.transcribe(goodbye, hints) == "goodbye"
        assert await recogniser.transcribe(goodbye, Hints(("xyzzyq",))) == ""

    with_recogniser(use)
    told = [record for record in caplog.records if "pronunciation" in record.message]
    assert [record.__dict__["words"] for record in told] == [["xyzzyq"]]


def test_many_grammars_do_not_fill_the_recogniser() -> None:
    async def use(recogniser: PocketSphinx, say: Say) -> None:
        goodbye = await say("goodbye", "en-gb")
        words = ("one", "two", "three", "four", "five", "six", "seven")
        grammars = [(a, b) for a in words for b in words] + [(a, "yes") for a in words] * 3
        assert len({frozenset(grammar) for grammar in grammars}) > 30
        for grammar in grammars:
            heard = await recogniser.transcribe(goodbye, Hints(("goodbye", *grammar)))
            assert heard == "goodbye"

    with_recogniser(use)


def test_a_dead_recogniser_fails_its_utterance_and_comes_back() -> None:
    async def use(recogniser: PocketSphinx, say: Say) -> None:
        goodbye = await say("goodbye", "en-gb")
        pid = recogniser.workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="the speech recogniser failed"):
            await recogniser.transcribe(goodbye, MENU)
        assert await recogniser.transcribe(goodbye, MENU) == "goodbye"

    with_recogniser(use)


def test_more_than_the_queue_holds_is_refused() -> None:
    async def use(recogniser: PocketSphinx, say: Say) -> None:
        silence = np.zeros(10, np.int16)
        jobs = [recogniser.transcribe(silence, MENU) for _ in range(stt.MAX_WAITING + 2)]
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        assert {type(answer) for answer in answers} == {str, OverloadedError}

    with_recogniser(use)

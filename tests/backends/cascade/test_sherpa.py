"""Recognisers and a voice of sherpa-onnx, with models that fit on a page."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade import sherpa
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings, SttSettings, TtsSettings
from bridge.backends.cascade.stt import Wanted
from bridge.errors import BackendError, ConfigError
from tests.backends.cascade import toy_models

WANTED = Wanted()
FRAME = MODEL_RATE // 50


def sound(*seconds: float) -> Pcm:
    """A hiss and silence by turns."""
    rng = np.random.default_rng(1)
    pieces = [
        rng.normal(0, 0 if number % 2 else 3000, int(length * MODEL_RATE)).astype(np.int16)
        for number, length in enumerate(seconds)
    ]
    return np.concatenate(pieces)


def heard(model: Path, family: str, use: Callable[[sherpa.Recogniser], Awaitable[None]]) -> None:
    async def run() -> None:
        made = sherpa.recogniser(SttSettings(kind="sherpa", model=str(model), family=family))
        assert isinstance(made, sherpa.Recogniser)
        try:
            await use(made)
        finally:
            await made.close()

    asyncio.run(run())


@pytest.mark.parametrize("family", ["nemo-ctc", "streaming-transducer"])
def test_an_utterance_is_turned_into_words(tmp_path: Path, family: str) -> None:
    async def use(recogniser: sherpa.Recogniser) -> None:
        silence = np.zeros(MODEL_RATE, np.int16)
        words = await asyncio.gather(
            *(recogniser.transcribe(pcm, None, WANTED) for pcm in (silence, sound(1, 0.5, 1)))
        )
        assert words[0] == ""
        assert set(words[1].split()) == {"beep"}

    make = toy_models.recogniser if family == "nemo-ctc" else toy_models.streaming_recogniser
    heard(make(tmp_path), family, use)


def test_the_loop_goes_on_while_words_are_looked_for(tmp_path: Path) -> None:
    async def use(recogniser: sherpa.Recogniser) -> None:
        looking = asyncio.ensure_future(recogniser.transcribe(sound(*[1.0] * 60), None, WANTED))
        turns = 0
        while not looking.done():
            await asyncio.sleep(0)
            turns += 1
        assert "beep" in await looking
        assert turns > 100

    heard(toy_models.recogniser(tmp_path), "nemo-ctc", use)


def test_words_are_heard_while_they_are_spoken(tmp_path: Path) -> None:
    async def use(recogniser: sherpa.Recogniser) -> None:
        assert isinstance(recogniser, sherpa.StreamingRecogniser)
        deltas: list[str] = []
        told = asyncio.Event()

        def on_delta(delta: str) -> None:
            deltas.append(delta)
            told.set()

        utterance = recogniser.listen(WANTED, on_delta)
        said = sound(1, 0.2)
        for begin in range(0, len(said), FRAME):
            utterance.push(said[begin : begin + FRAME])
        await asyncio.wait_for(told.wait(), 5)
        assert deltas[0].startswith("beep")
        utterance.push(sound(0.5))
        words = await utterance.finish()
        assert words == "".join(deltas)
        assert len(words.split()) > 25
        recogniser.listen(WANTED, on_delta).abandon()

    heard(toy_models.streaming_recogniser(tmp_path), "streaming-transducer", use)


def test_a_recogniser_that_falls_behind_says_so(tmp_path: Path) -> None:
    async def use(recogniser: sherpa.Recogniser) -> None:
        assert isinstance(recogniser, sherpa.StreamingRecogniser)
        utterance = recogniser.listen(WANTED, lambda _: None)
        for _ in range(sherpa.MAX_BEHIND + 1):
            utterance.push(sound(0.02))
        with pytest.raises(BackendError, match="keep up"):
            await utterance.finish()

    heard(toy_models.streaming_recogniser(tmp_path), "streaming-transducer", use)


def test_a_voice_speaks_sentence_by_sentence_and_can_be_stopped(tmp_path: Path) -> None:
    async def run() -> None:
        voice = sherpa.Voice(TtsSettings(kind="sherpa", model=str(tmp_path), family="vits"))
        pieces = [pcm async for pcm in voice.speak("Bip bop. Bip!", voice="alloy")]
        spoken_s = sum(map(len, pieces)) / MODEL_RATE
        assert spoken_s == pytest.approx(13 * toy_models.BEEP / toy_models.VOICE_RATE, rel=0.01)
        assert len(pieces) > 2
        assert np.abs(np.concatenate(pieces)).max() > 4000
        async with aclosing(voice.speak("Bip bop. " * 50)) as stopped:
            async for _ in stopped:
                break
        # The next caller does not wait for what nobody hears any more.
        assert [pcm async for pcm in voice.speak("Bop.")]
        assert sum([len(pcm) async for pcm in voice.speak("Unknown")]) == 0
        await voice.close()

    toy_models.voice(tmp_path)
    asyncio.run(run())


def make(part: str, model: Path, family: str) -> None:
    if part == "stt":
        stt = SttSettings(kind="sherpa", model=str(model), family=family)
        Parts(CascadeSettings(stt=stt))
    else:
        tts = TtsSettings(kind="sherpa", model=str(model), family=family)
        Parts(CascadeSettings(tts=tts))


@pytest.mark.parametrize(
    ("part", "family", "removed", "told"),
    [
        ("stt", "streaming-transducer", "joiner.onnx", r"no \*joiner\*.onnx"),
        ("stt", "streaming-transducer", "tokens.txt", r"no \*tokens.txt"),
        ("tts", "vits", "lexicon.txt", r"no lexicon\*.txt"),
        ("stt", "bert", "", "there is transducer, .*, streaming-transducer"),
        ("tts", "piper", "", "there is vits, kokoro"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, part: str, family: str, removed: str, told: str
) -> None:
    (toy_models.streaming_recogniser if part == "stt" else toy_models.voice)(tmp_path)
    if removed:
        make(part, tmp_path, family)
        (tmp_path / removed).unlink()
    with pytest.raises(ConfigError, match=told):
        make(part, tmp_path, family)


@pytest.mark.parametrize(("part", "family"), [("stt", "nemo-ctc"), ("tts", "vits")])
def test_a_directory_that_is_none_and_a_library_that_is_none(
    tmp_path: Path, part: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="needs the directory"):
        make(part, tmp_path / "nowhere", family)
    monkeypatch.setitem(sys.modules, "sherpa_onnx", None)
    with pytest.raises(ConfigError, match=r"realtime-bridge\[sherpa\]"):
        make(part, tmp_path, family)


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    toy_models.recogniser(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"<html>404</html>")
    with pytest.raises(ConfigError, match="cannot be used"):
        make("stt", tmp_path, "nemo-ctc")

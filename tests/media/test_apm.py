import logging
import sys

import numpy as np
import pytest

from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, Pcm
from bridge.errors import ConfigError
from bridge.media import apm
from bridge.media.apm import NOISE_REDUCTION, Cleaner, Wanted

SECONDS = 6


def hiss(level: float, seconds: float = SECONDS) -> Pcm:
    sound = np.random.default_rng(4).normal(0, level, int(seconds * MODEL_RATE))
    return sound.astype(np.int16)


def voice(level: float, seconds: float = SECONDS) -> Pcm:
    """Four syllables a second, each on another pitch."""
    time = np.arange(int(seconds * MODEL_RATE)) / MODEL_RATE
    pitch = 110 + 40 * np.random.default_rng(2).random(4 * SECONDS + 4)[(4 * time).astype(int)]
    phase = 2 * np.pi * np.cumsum(pitch) / MODEL_RATE
    harmonics = sum(np.sin(n * phase) / n for n in range(1, 24))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time), 0, None)
    pcm: Pcm = (level * harmonics * syllables).astype(np.int16)
    return pcm


def heard(cleaner: Cleaner, said: Pcm, played: Pcm | None = None) -> Pcm:
    out = []
    for at in range(0, len(said) - MODEL_FRAME + 1, MODEL_FRAME):
        if played is not None:
            cleaner.play(played[at : at + MODEL_FRAME])
        out.append(cleaner.hear(said[at : at + MODEL_FRAME]))
    return np.concatenate(out)


def db(sound: Pcm) -> float:
    """Of its last two seconds."""
    last = sound[-2 * MODEL_RATE :].astype(float)
    return float(10 * np.log10(np.mean(last**2) + 1e-9))


# To bring a voice to its level makes what is left of the hiss louder, too.
@pytest.mark.parametrize(("kind", "less_db"), [("near_field", 8), ("far_field", 4)])
def test_hiss_is_taken_away(kind: str, less_db: float) -> None:
    noise = hiss(300)
    assert db(heard(Cleaner(NOISE_REDUCTION[kind]), noise)) < db(noise) - less_db


def test_a_voice_is_left() -> None:
    said = voice(4000)
    assert abs(db(heard(Cleaner(NOISE_REDUCTION["near_field"]), said)) - db(said)) < 3


def test_who_is_far_from_the_telephone_is_made_louder() -> None:
    said = voice(300)
    assert db(heard(Cleaner(NOISE_REDUCTION["far_field"]), said)) > db(said) + 6


@pytest.mark.parametrize("delay_ms", [20, 100, 250])
def test_the_agent_s_voice_does_not_come_back(delay_ms: int) -> None:
    said = voice(6000)
    late = np.concatenate((np.zeros(delay_ms * 24, np.int16), said // 10))[: len(said)]
    left = heard(Cleaner(Wanted(echo=True)), late, said)
    assert db(left) < db(late) - 15


def test_what_was_given_is_not_changed() -> None:
    said = voice(2000, 1)
    before = said.copy()
    heard(Cleaner(Wanted(noise=True, level=True, echo=True)), said, said)
    assert (said == before).all()


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apm.load.cache_clear()
    monkeypatch.setitem(sys.modules, "livekit", None)
    with pytest.raises(ConfigError, match=r"install realtime-bridge\[apm\]"):
        apm.load()
    with caplog.at_level(logging.WARNING):
        loader = apm.Loader()
        for _ in range(3):
            loader.start_once()
        loader.join()
    assert [record.message for record in caplog.records] == ["noise_reduction does nothing"]

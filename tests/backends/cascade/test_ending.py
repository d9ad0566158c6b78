import asyncio
from pathlib import Path

import numpy as np
import pytest

from bridge.backends.base import MODEL_RATE
from bridge.backends.cascade.ending import (
    LEAST_MS,
    MAX_WAIT_MS,
    SURE,
    SmartTurn,
    features,
    wait_for_words,
    wait_ms,
)
from bridge.backends.cascade.turn import SEMANTIC_SILENCE_MS
from bridge.errors import ConfigError
from tests.peers.models import tone

EAGERNESS = ("low", "medium", "high", "auto")


@pytest.mark.parametrize("eagerness", EAGERNESS)
def test_the_surer_the_model_the_shorter_the_pause(eagerness: str) -> None:
    waits = [wait_ms(probability, eagerness) for probability in np.linspace(0, 1, 21)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] == MAX_WAIT_MS[eagerness]
    assert wait_ms(SURE[eagerness], eagerness) == waits[-1] == LEAST_MS


def test_eagerness_is_how_much_doubt_ends_a_turn() -> None:
    assert wait_ms(0.4, "high") < wait_ms(0.4, "medium") < wait_ms(0.4, "low")
    assert wait_ms(0.4, "auto") == wait_ms(0.4, "medium")


@pytest.mark.parametrize(
    ("words", "factor"),
    [
        ("", 1.0),
        ("what time do you open", 1.0),
        ("What time do you open?", 0.6),
        ("I would like to", 3.0),
        ("it is about my", 3.0),
        ("well,", 3.0),
        ("um", 3.0),
        ("ich komme mit der", 3.0),
        ("my number is four five", 2.0),
        ("12", 2.0),
    ],
)
def test_words_tell_how_long_a_pause_may_be(words: str, factor: float) -> None:
    for eagerness in EAGERNESS:
        wanted = min(MAX_WAIT_MS[eagerness], round(SEMANTIC_SILENCE_MS[eagerness] * factor))
        assert wait_for_words(words, eagerness) == wanted


def test_a_tone_is_a_line_in_the_spectrogram() -> None:
    mel = features(tone(2.0, 16_000))
    assert mel.shape == (80, 800)
    assert mel.dtype == np.float32
    assert int(mel[:, 700].argmax()) == int(mel[:, 790].argmax())
    loud, quiet = mel[:, 650:790].max(axis=0), mel[:, :500].max(axis=0)
    assert loud.min() > quiet.max() + 0.5


def field(number: int, value: bytes | int) -> bytes:
    """Of a protocol buffer; numbers here are below 128."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes(parts) + bytes([value])


def network(frames: int) -> bytes:
    """An ONNX file: the sigmoid of the mean of (1, 80, frames)."""

    def tensor(name: bytes, *sizes: int) -> bytes:
        dims = b"".join(field(1, field(1, size)) for size in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    axes = field(1, b"axes") + field(8, 1) + field(8, 2) + field(20, 7)
    keep = field(1, b"keepdims") + field(3, 0) + field(20, 2)
    mean = field(1, b"x") + field(2, b"m") + field(4, b"ReduceMean") + field(5, axes)
    mean += field(5, keep)
    sigmoid = field(1, b"m") + field(2, b"y") + field(4, b"Sigmoid")
    graph = field(1, mean) + field(1, sigmoid) + field(2, b"g")
    graph += field(11, tensor(b"x", 1, 80, frames)) + field(12, tensor(b"y", 1))
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


def test_a_model_is_asked_about_the_last_eight_seconds(tmp_path: Path) -> None:
    path = tmp_path / "turn.onnx"
    path.write_bytes(network(800))
    model = SmartTurn(str(path))
    sound = tone(9.0, MODEL_RATE)
    probability = asyncio.run(model.ended(sound))
    assert 0.0 < probability < 1.0
    assert probability == pytest.approx(model.score(sound[-8 * MODEL_RATE :]))
    assert probability != pytest.approx(model.score(sound[: MODEL_RATE // 2]), abs=1e-3)
    model.close()


def test_a_file_that_is_no_turn_model_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(network(3000))
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no network")
    for path, why in ((other, "not features of 80 x 800"), (noise, "cannot be used")):
        with pytest.raises(ConfigError, match=why):
            SmartTurn(str(path))
    with pytest.raises(ConfigError, match=r"cascade\.turn\.model"):
        SmartTurn(str(tmp_path / "none.onnx"))

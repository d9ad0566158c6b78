"""What is kept of a caller until the model has heard it."""

import base64

import numpy as np
import pytest

from bridge.backends.upstream.caller import IDLE_MS, KEPT_MS, CallerAudio, Coder

FRAME_MS = 20
VOICE = np.full(480, 3000, np.int16)
SILENCE = np.zeros(480, np.int16)


def push(caller: CallerAudio, frame: np.ndarray, ms: int) -> None:
    for _ in range(ms // FRAME_MS):
        caller.push(frame)


def test_silence_is_kept_as_long_as_a_detector_may_look_back() -> None:
    caller = CallerAudio()
    caller.holding = False
    push(caller, SILENCE, 10_000)
    assert caller.kept_ms == IDLE_MS
    assert caller.position_ms == 10_000


def test_a_voice_that_nobody_noticed_is_kept() -> None:
    caller = CallerAudio()
    caller.holding = False
    push(caller, SILENCE, 5000)
    push(caller, VOICE, 1000)
    push(caller, SILENCE, 3000)
    begin, kept = caller.since(0)
    assert begin <= 5000
    assert (kept == 3000).sum() == 1000 * 24
    # Once it is known that the model heard it, it need not be kept.
    caller.notice()
    push(caller, SILENCE, FRAME_MS)
    assert caller.kept_ms == IDLE_MS


def test_no_more_is_kept_than_can_be_said_again() -> None:
    caller = CallerAudio()
    push(caller, VOICE, KEPT_MS + 5000)
    assert caller.kept_ms == KEPT_MS
    assert caller.dropped_ms == 5000


def test_what_is_noticed_is_so_up_to_here() -> None:
    caller = CallerAudio()
    push(caller, VOICE, 300)
    assert caller.unnoticed(299)
    assert not caller.unnoticed(300)
    push(caller, VOICE, 100)
    caller.notice()
    assert not caller.unnoticed(0)
    for size in (100, 0, 2000):  # Not every source has frames of 20 ms.
        caller.push(VOICE[:1].repeat(size))
    push(caller, SILENCE, 40)
    assert caller.unnoticed(87)
    assert not caller.unnoticed(88)


def test_quiet() -> None:
    caller = CallerAudio()
    push(caller, VOICE, 100)
    assert not caller.quiet
    push(caller, SILENCE, 200)
    assert caller.quiet


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_g711_is_passed_on_as_it_is(law: str) -> None:
    octets = bytes(range(160))
    coder = Coder(f"audio/{law.lower()}")
    relayed = coder.relay(octets, law)
    assert relayed is not None
    assert base64.b64decode(relayed) == octets
    other = "PCMA" if law == "PCMU" else "PCMU"
    assert coder.relay(octets, other) is None
    assert Coder("audio/pcm").relay(octets, law) is None

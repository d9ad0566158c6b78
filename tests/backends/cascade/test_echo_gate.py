import numpy as np
import pytest

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.echo_gate import EchoGate

FRAME = 480
SECONDS = 2.0


def noise(seed: int, level: float = 6000.0) -> Pcm:
    """Syllables of noise: it looks like nothing but itself."""
    rng = np.random.default_rng(seed)
    slow = np.repeat(rng.normal(0, 1, int(SECONDS * MODEL_RATE) // 3), 3)
    beat = 0.6 + 0.4 * np.sin(np.arange(len(slow)) * 2 * np.pi * 4 / MODEL_RATE)
    return (slow * beat * level / 3).clip(-32768, 32767).astype(np.int16)


def echo(sound: Pcm, delay_ms: int, loss_db: float) -> Pcm:
    late = np.concatenate((np.zeros(delay_ms * 24, np.int16), sound))[: len(sound)]
    faint: Pcm = (late * 10 ** (-loss_db / 20)).astype(np.int16)
    return faint


def verdicts(heard: Pcm, played: Pcm) -> list[bool]:
    """Every 100 ms, once the longest delay is over."""
    gate = EchoGate()
    told = []
    for end in range(FRAME, len(heard) + 1, FRAME):
        gate.hear(heard[end - FRAME : end], end)
        gate.play(played[end - FRAME : end])
        if end >= MODEL_RATE // 2 and end % (5 * FRAME) == 0:
            told.append(gate.is_echo(end * 1000 // MODEL_RATE))
    return told


@pytest.mark.parametrize("delay_ms", [0, 20, 110, 250, 330])
@pytest.mark.parametrize("loss_db", [6, 20])
def test_what_comes_back_is_known(delay_ms: int, loss_db: float) -> None:
    agent = noise(1)
    assert all(verdicts(echo(agent, delay_ms, loss_db), agent))


def test_what_comes_back_later_than_an_echo_does_is_not() -> None:
    agent = noise(1)
    assert not any(verdicts(echo(agent, 450, 20), agent))


def test_a_caller_is_no_echo_whatever_the_agent_says() -> None:
    assert not any(verdicts(noise(2), noise(1)))
    assert not any(verdicts(noise(2), np.zeros_like(noise(1))))


def hum(seed: int, pitch_hz: float) -> Pcm:
    """A voice on one note, most of which is its lowest harmonics."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 30)
    time = np.arange(int(SECONDS * MODEL_RATE)) / MODEL_RATE
    harmonics = np.arange(1, 31)[:, None]
    waves = np.cos(2 * np.pi * pitch_hz * harmonics * time + phases[:, None]) / harmonics**1.5
    vowel: Pcm = (4000 * waves.sum(axis=0)).astype(np.int16)
    return vowel


@pytest.mark.parametrize("pitch_hz", [108.0, 117.0, 160.0])
def test_two_voices_are_not_alike_for_being_voices(pitch_hz: float) -> None:
    assert not any(verdicts(hum(2, pitch_hz), hum(1, 110.0)))


def test_a_caller_who_speaks_over_the_echo_is_heard() -> None:
    agent = noise(1)
    quiet = np.concatenate((np.zeros(MODEL_RATE, np.int16), noise(2)[MODEL_RATE:]))
    told = verdicts(echo(agent, 110, 20) + quiet, agent)
    alone, together = told[:6], told[8:]
    assert all(alone)
    assert not any(together)


def test_silence_is_no_echo() -> None:
    assert not any(verdicts(np.zeros_like(noise(1)), noise(1)))


def test_sound_that_was_cut_off_is_known_a_while_longer() -> None:
    agent = noise(1)
    gate = EchoGate()
    back = echo(agent, 250, 20)
    for end in range(FRAME, len(agent) + 1, FRAME):
        gate.hear(back[end - FRAME : end], end)
        if end <= MODEL_RATE:
            gate.play(agent[end - FRAME : end])
    assert gate.is_echo(1200)
    assert not gate.is_echo(2000)


def test_what_has_only_begun_is_not_judged() -> None:
    agent = noise(1)
    agent[:MODEL_RATE] = 0
    back = echo(agent, 0, 20)
    gate = EchoGate()
    verdict = {}
    for end in range(FRAME, len(agent) + 1, FRAME):
        gate.hear(back[end - FRAME : end], end)
        gate.play(agent[end - FRAME : end])
        ms = end * 1000 // MODEL_RATE
        if ms in (1060, 1160):
            verdict[ms] = gate.is_echo(ms)
    assert verdict == {1060: False, 1160: True}


@pytest.mark.parametrize(("loss_db", "held"), [(3.5, False), (20, True)])
def test_a_loud_likeness_holds_no_longer_than_it_lasts(loss_db: float, *, held: bool) -> None:
    """100 ms of what was said 40 ms before, then another sound as loud."""
    agent = noise(1)
    heard = np.zeros_like(agent)
    begin, turn = MODEL_RATE, MODEL_RATE + MODEL_RATE // 10
    agent[: begin - MODEL_RATE // 25] = 0
    heard[begin:turn] = echo(agent, 40, loss_db)[begin:turn]
    heard[turn:] = echo(noise(2), 0, loss_db)[turn:]
    gate = EchoGate()
    verdict = {}
    for end in range(FRAME, len(agent) + 1, FRAME):
        gate.hear(heard[end - FRAME : end], end)
        gate.play(agent[end - FRAME : end])
        ms = end * 1000 // MODEL_RATE
        if ms in (1120, 1240):
            verdict[ms] = gate.is_echo(ms)
    assert verdict == {1120: True, 1240: held}


@pytest.mark.parametrize("loss_db", [4, 20])
def test_what_was_not_there_before_is_no_echo(loss_db: float) -> None:
    """The agent speaks for a second into silence; then somebody sounds like it."""
    agent = noise(1)
    heard = echo(agent, 100, loss_db)
    heard[:MODEL_RATE] = 0
    told = verdicts(heard, agent)
    assert not any(told[:8])


def test_the_rest_of_an_echo_that_is_known_is_none_of_the_callers() -> None:
    """Fainter than it should be, whatever it looks like, and then hardly there."""
    agent = noise(1)
    back = echo(agent, 110, 10)
    back[MODEL_RATE:] = noise(2)[MODEL_RATE:] // 16
    back[MODEL_RATE * 3 // 2 :] = noise(2)[MODEL_RATE * 3 // 2 :] // 100
    assert all(verdicts(back, agent))


def test_an_echo_that_moves_is_the_same() -> None:
    """As jitter buffers grow and shrink: some windows have it at three delays."""
    agent = noise(1)
    back = echo(agent, 110, 20)
    stretch = MODEL_RATE * 60 // 1000
    for number, begin in enumerate(range(MODEL_RATE, len(agent), stretch)):
        moved = echo(agent, (150, 70, 160)[number % 3], 20)
        back[begin : begin + stretch] = moved[begin : begin + stretch]
    assert all(verdicts(back, agent))

"""The short form of `python -m tests.sip.fuzz`, which times as well, and streams cut everywhere."""

from itertools import islice

import pytest

from bridge.sip.framing import StreamFramer
from tests.sip.fuzz import BOUND_NS, Findings, run
from tests.sip.mutations import Mutator, corpus, crowds, floods

CORPUS = corpus()


def mutated(seed: int, count: int) -> Findings:
    mutate = Mutator(seed, CORPUS)
    return run(mutate() for _ in range(count))


def check(findings: Findings) -> None:
    assert findings.errors == {}, findings.raised


@pytest.mark.parametrize("seed", range(4))
def test_mutated(seed: int) -> None:
    findings = mutated(seed, 4500)
    check(findings)
    # That it is no walk-over: most outcomes there are, and neither all dropped nor all valid.
    assert {"dropped", "valid", "response", "400", "405", "513", "505"} <= findings.outcomes.keys()
    assert findings.outcomes["dropped"] < findings.messages * 0.6


def test_same_seed_same_messages() -> None:
    assert mutated(7, 200).octets == mutated(7, 200).octets != mutated(8, 200).octets


def test_flooded() -> None:
    findings = run([*crowds(), *islice(floods(), 0, None, 13)])
    check(findings)
    assert findings.messages > 1900


def test_the_corpus_itself() -> None:
    findings = run(CORPUS)
    check(findings)
    assert findings.outcomes["valid"] > 25
    assert findings.outcomes["response"] > 10


@pytest.mark.parametrize("data", CORPUS, ids=range(len(CORPUS)))
def test_streams_cut_at_every_octet(data: bytes) -> None:
    whole = StreamFramer()
    frames = whole.feed(data)
    for cut in range(len(data) + 1):
        framer = StreamFramer()
        assert framer.feed(data[:cut]) + framer.feed(data[cut:]) == frames
        assert (framer.broken, framer.pending) == (whole.broken, whole.pending)
    framer = StreamFramer()
    assert [found for octet in data for found in framer.feed(bytes([octet]))] == frames


def test_streams_of_all_that_frames() -> None:
    sound = [data for data in CORPUS if StreamFramer().feed(data) == [data]]
    assert len(sound) > 60
    framer = StreamFramer()
    assert framer.feed(b"".join(sound)) == sound


def test_what_breaks_a_promise_is_found() -> None:
    def fails(data: bytes) -> str:
        raise IndexError("x")

    def dawdles(data: bytes) -> str:
        return str(sum(range(200_000)))

    failed = run(CORPUS[:3], subject=fails)
    assert failed.errors == {"IndexError: x": 3}
    assert not failed.kept_promises
    assert "IndexError: x" in failed.report(1)
    slow = run(CORPUS[:3], subject=dawdles)
    assert slow.worst_ns > BOUND_NS
    assert not slow.kept_promises

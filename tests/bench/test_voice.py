from dataclasses import replace

import numpy as np

from bridge.audio.frames import Pcm
from tests.bench.voice import Result, Take, parse, planned, steadiness, table
from tests.bench.voice_score import NARROW, Score, cut, delays, lag


def murmur(seconds: float) -> Pcm:
    """Noise that nothing but itself is like."""
    noise = np.random.default_rng(1).standard_normal(int(seconds * NARROW))
    return (3000 * noise).astype(np.int16)


def test_the_start_is_found_wherever_it_is() -> None:
    said = murmur(2.0)
    late = np.concatenate((np.zeros(1234, np.int16), said))
    assert lag(said, late) == 1234
    assert lag(said, said[500:]) == -500
    assert (cut(late, 1234, len(said)) == said).all()
    assert (cut(said[500:], -500, len(said))[500:] == said[500:]).all()


def test_what_was_inserted_shows_in_the_delay() -> None:
    said = murmur(4.0)
    broken = np.concatenate((said[:16000], np.zeros(160, np.int16), said[16000:]))
    found = delays(said, np.concatenate((np.zeros(4000, np.int16), broken, said)), 4000)
    assert set(found) == {0, 160}
    assert found == sorted(found)


def test_both_peers_lose_the_same_packets() -> None:
    wanted = "--codecs opus --loss 5 --burst 3 --takes 1"
    ours, theirs = planned(parse(wanted.split()))
    assert (ours.ours, theirs.ours) == (True, False)
    for mine, yours in zip(ours.ways(), theirs.ways(), strict=True):
        lost = [not mine.send(number / 50) for number in range(500)]
        assert lost == [not yours.send(number / 50) for number in range(500)]
        assert 0 < sum(lost) < 100


def test_a_row_has_medians_of_both_peers() -> None:
    def result(number: int, pesq: float, *, ours: bool) -> Result:
        said = Score(pesq, wide=True, jumps=0, moved_ms=20.0)
        return Result(Take("opus", 5, 3, number, ours), said, said, {"concealed": number})

    results = [result(number, 2.0 + number, ours=True) for number in range(3)]
    results += [result(number, 1.0 + number, ours=False) for number in range(3)]
    assert table(results)[2:] == [
        "| opus wb | 5 % | 3 | 3.00 | 2.00 | 3.00 | 2.00 | 20 ms | 1 |",
    ]


def test_browsers_and_other_calls_are_beside_ours_alone() -> None:
    wanted = "--codecs PCMA opus-64k-fec --loss 0 5 --burst 1 --takes 1 --browser --beside 200"
    takes = planned(parse(wanted.split()))
    assert len({take.name for take in takes}) == len(takes)
    assert [take.codec for take in takes if take.browser] == ["PCMA", "PCMA"]
    assert not any(take.loss for take in takes if take.browser)
    busy = [take for take in takes if take.beside]
    assert takes[-len(busy) :] == busy
    assert all(take.ours for take in busy)
    assert len(busy) == sum(take.ours for take in takes) / 2


def test_what_other_calls_do_is_told_of_the_same_words() -> None:
    def result(number: int, pesq: float, beside: int) -> Result:
        said = Score(pesq, wide=False, jumps=0, moved_ms=0.0)
        take = Take("PCMU", 0, 1, number, ours=True, beside=beside)
        return Result(take, said, replace(said, pesq=4.0), {"concealed": 0})

    results = [result(number, 4.0 + number / 10, 0) for number in range(3)]
    results += [result(number, pesq, 200) for number, pesq in enumerate((4.3, 3.9, 4.2))]
    assert steadiness(results) == [
        "PCMU, baresip, 0 % loss, burst 1, beside 200 calls: "
        "+0.00 (+0.30) to us, +0.00 (+0.00) from us"
    ]

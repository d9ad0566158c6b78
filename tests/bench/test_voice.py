import numpy as np

from bridge.audio.frames import Pcm
from tests.bench.voice import Result, Take, parse, planned, table
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

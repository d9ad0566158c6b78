from itertools import pairwise

from tests.ports import RANGE, claim, free_port


def test_ports_have_neighbours_of_their_own() -> None:
    ports = sorted(free_port() for _ in range(20))
    assert all(after - before >= 3 for before, after in pairwise(ports))
    assert {RANGE.start <= port < RANGE.stop for port in ports} == {True}


def test_a_block_is_claimed_once() -> None:
    first, base = claim([25_000, 25_400], 400)
    second, other = claim([25_000, 25_400], 400)
    assert {base, other} == {25_000, 25_400}
    first.close()
    second.close()

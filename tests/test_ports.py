from itertools import pairwise

from tests.ports import RANGE, RTP_BASES, RTP_PORTS, claim, free_port, media_ports


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


def test_media_has_ports_of_its_own() -> None:
    given = [media_ports(count) for count in (10, 3, 200, 150, 40)]
    assert [len(ports) for ports in given] == [10, 3, 200, 150, 40]
    assert {ports.start % 2 for ports in given} == {0}
    (base,) = {ports.start // RTP_PORTS * RTP_PORTS for ports in given}
    assert base in RTP_BASES
    # The last port of the block is what holds it.
    assert all(ports.stop < base + RTP_PORTS for ports in given)
    assert all(
        after.start > before.start or after.start == base for before, after in pairwise(given)
    )

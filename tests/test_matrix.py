from tests.matrix import ROWS, Claim, Matrix


def shown(*claims: tuple[int, str, bool]) -> Matrix:
    matrix = Matrix()
    for row, peer, passed in claims:
        matrix.heard([Claim(row, peer)], passed=passed)
    return matrix


def test_it_has_64_rows() -> None:
    assert list(Matrix().rows) == list(range(1, 65))
    assert len(Matrix().table()) == 65
    assert len(ROWS.strip().splitlines()) == 64


def test_what_lacks() -> None:
    lacking = shown(
        (1, "sipp", True),
        (2, "phone", True),
        (3, "sipp, baresip", True),
        (4, "sipp", False),
        (36, "core", True),
    ).lacking()
    assert not {1, 3, 36} & set(lacking)
    assert {2, 4, 5, 38} <= set(lacking)


def test_the_table() -> None:
    lines = shown((1, "sipp", True), (1, "baresip", False), (60, "JsSIP", True)).table()
    assert lines[1].split()[-4:] == ["FAIL", "baresip", "FAIL,", "sipp"]
    assert lines[2].endswith("not shown")
    assert lines[60].split()[-2:] == ["pass", "JsSIP"]

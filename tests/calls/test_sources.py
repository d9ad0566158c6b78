from bridge.calls.sources import LINES_A_WINDOW, REMEMBERED, Strangers


def test_an_address_is_told_once_a_minute() -> None:
    strangers = Strangers()
    assert strangers.dropped("192.0.2.1", 0.0) == 1
    assert [strangers.dropped("192.0.2.1", at) for at in (1.0, 30.0, 59.0)] == [0, 0, 0]
    assert strangers.dropped("192.0.2.1", 61.0) == 4


def test_a_trunk_is_seen_beside_a_scanner() -> None:
    strangers = Strangers()
    assert strangers.dropped("192.0.2.1", 0.0) == 1
    assert not any(strangers.dropped("192.0.2.1", 0.001 * n) for n in range(5000))
    assert strangers.dropped("198.51.100.1", 5.0) == 5001


def test_a_flood_of_addresses_is_a_few_lines() -> None:
    strangers = Strangers()
    told = [strangers.dropped(f"2001:db8::{n:x}", n / 1000) for n in range(9000)]
    assert sum(each > 0 for each in told) == LINES_A_WINDOW
    assert strangers.dropped("192.0.2.1", 10.0) == 9000 - LINES_A_WINDOW + 1


def test_what_is_remembered_has_an_end() -> None:
    strangers = Strangers()
    for n in range(2 * REMEMBERED):
        assert strangers.dropped(f"2001:db8::{n:x}", 10.0 * n) == 1
    assert len(strangers._told) == REMEMBERED

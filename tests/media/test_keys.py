from hypothesis import given, strategies as st

from bridge.media.keys import MAX_PER_SECOND, KeyFilter, Source


def accepted(*reports: tuple[Source, str, float]) -> str:
    keys = KeyFilter()
    return "".join(digit for source, digit, at in reports if keys.accepts(source, digit, at))


def test_a_press_told_three_ways() -> None:
    assert accepted(("event", "5", 0.0), ("tone", "5", 0.06), ("info", "5", 0.3)) == "5"
    assert accepted(("info", "5", 0.0), ("event", "5", 0.1), ("tone", "5", 0.2)) == "5"


def test_two_presses_told_two_ways() -> None:
    reports: tuple[tuple[Source, str, float], ...] = (
        ("event", "5", 0.0),
        ("event", "5", 0.3),
        ("info", "5", 0.35),
        ("info", "5", 0.6),
    )
    assert accepted(*reports) == "55"
    assert accepted(*(reports[n] for n in (0, 2, 1, 3))) == "55"


def test_the_same_way_twice_is_two_presses() -> None:
    assert accepted(("info", "1", 0.0), ("info", "1", 0.1)) == "11"


def test_another_digit_or_much_later_is_another_press() -> None:
    assert accepted(("event", "1", 0.0), ("info", "2", 0.1), ("info", "1", 3.0)) == "121"


def test_a_key_held_long_is_told_of_by_info_at_its_end() -> None:
    keys = KeyFilter()
    assert keys.accepts("event", "9", 0.0)
    assert not keys.accepts("info", "9", 4.1, lasted_s=4.0)


def test_a_generator_of_digits_is_capped() -> None:
    keys = KeyFilter()
    taken = sum(keys.accepts("event", str(n % 10), n / 1000) for n in range(3000))
    assert taken == 3 * MAX_PER_SECOND
    assert keys.dropped == 3000 - taken


@given(
    st.lists(
        st.tuples(
            st.sampled_from("12"),
            st.sets(st.sampled_from(["event", "info", "tone"]), min_size=2),
            st.floats(0.06, 1.0),
        ),
        max_size=12,
    )
)
def test_one_digit_per_press_whatever_ways_tell(
    presses: list[tuple[str, set[Source], float]],
) -> None:
    ways: set[Source] = presses[0][1] if presses else set()
    keys = KeyFilter()
    told = ""
    now = 0.0
    for digit, _, gap in presses:
        for source in sorted(ways):
            now += 0.01
            if keys.accepts(source, digit, now):
                told += digit
        now += gap
    assert told == "".join(digit for digit, _, _ in presses)

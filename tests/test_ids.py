import re
from collections import Counter

from bridge.ids import BASE62, new_call_id, new_id, random_base62


def test_call_ids_carry_the_node_and_cannot_be_guessed() -> None:
    ids = {new_call_id("a1b2") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"rtc_a1b2_[0-9A-Za-z]{22}", call_id) for call_id in ids)


def test_ids_look_as_openai_s_do() -> None:
    assert re.fullmatch(r"item_[0-9A-Za-z]{21}", new_id("item"))


def test_characters_are_equally_likely() -> None:
    drawn = Counter(random_base62(62_000))
    assert set(drawn) == set(BASE62)
    # Seven standard deviations.
    assert all(abs(count - 1000) < 7 * 1000**0.5 for count in drawn.values())


def test_ids_have_any_length() -> None:
    assert [len(random_base62(length)) for length in (0, 1, 22, 5000)] == [0, 1, 22, 5000]

import re

from bridge.ids import new_call_id, new_id


def test_call_ids_carry_the_node_and_cannot_be_guessed() -> None:
    ids = {new_call_id("a1b2") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"rtc_a1b2_[0-9A-Za-z]{22}", call_id) for call_id in ids)


def test_ids_look_as_openai_s_do() -> None:
    assert re.fullmatch(r"item_[0-9A-Za-z]{21}", new_id("item"))

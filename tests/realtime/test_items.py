"""Words cut at what was heard."""

import pytest

from bridge.realtime.items import Words

TEXT = "one two three four five six"


@pytest.mark.parametrize(
    ("played_ms", "kept"),
    [
        (0, ""),
        (100, ""),
        (300, "one"),
        (1_000, "one two three"),
        (1_999, "one two three four five"),
        (2_000, TEXT),
        (9_000, TEXT),
    ],
)
def test_whole_words_in_proportion(played_ms: int, kept: str) -> None:
    words = Words()
    words.add(TEXT, 0)
    words.cut(played_ms, 2_000)
    assert str(words) == kept


def test_each_sentence_has_its_own_stretch() -> None:
    words = Words()
    words.add("A slow one. ", 0)
    words.add("Then a quick one.", 4_000)
    words.cut(4_000, 5_000)
    assert str(words) == "A slow one."


def test_text_far_ahead_of_its_sound_was_not_heard() -> None:
    words = Words()
    words.add("word " * 200, 0)
    words.cut(900, 1_000)
    assert len(str(words)) <= 27


def test_text_after_the_sound_was_not_heard() -> None:
    words = Words()
    words.add("late", 500)
    words.cut(400, 1_000)
    assert str(words) == ""


def test_a_script_without_spaces_is_cut_between_characters() -> None:
    words = Words()
    words.add("你好我是前台请问您找谁", 0)
    words.cut(1_000, 2_000)
    assert str(words) == "你好我是前"


def test_words_can_be_cut_again() -> None:
    words = Words()
    words.add("one two ", 0)
    words.add("three four", 1_000)
    words.cut(1_500, 2_000)
    assert str(words) == "one two three"
    words.cut(500, 1_500)
    assert str(words) == "one"

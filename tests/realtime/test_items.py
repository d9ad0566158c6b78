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


@pytest.mark.parametrize(("played_ms", "kept"), [(1_000, 3), (2_000, 6), (2_100, 6)])
def test_of_text_whose_sound_still_comes_as_much_was_heard_as_is_usually_said(
    played_ms: int, kept: int
) -> None:
    words = Words(growing=True)
    words.add("word " * 30, 0)
    words.cut(played_ms, 2_100)
    assert str(words) == " ".join(["word"] * kept)


def test_how_fast_a_voice_speaks_is_learnt_from_what_it_has_said() -> None:
    words = Words(growing=True)
    words.add("a slow one", 0)
    words.add(" word" * 6, 2_000)
    words.cut(4_000, 4_100)
    assert str(words) == "a slow one word word"


def test_words_whose_times_are_known_are_cut_there() -> None:
    words = Words(growing=True)
    for number, word in enumerate(TEXT.split(" ")):
        words.add(f" {word}" if number else word, number * 40, timed=True)
    words.cut(130, 150)
    assert str(words) == "one two three"
    words.growing = False
    words.cut(130, 150)
    assert str(words) == "one two three"


def test_words_may_be_known_before_their_sound_comes() -> None:
    words = Words(growing=True)
    for word, at_ms in (("now", 0), (" then", 900), (" later", 2_000)):
        words.add(word, at_ms, timed=True)
    words.cut(1_000, 1_000)
    assert str(words) == "now"

"""Text told word by word, as a voice says when it speaks each."""

import pytest

from bridge.backends.cascade.captions import Caption
from bridge.backends.cascade.tts import Word

Told = list[tuple[str, float | None]]


def told(text: str, *sounds: list[tuple[str, float]], begin_ms: float = 0.0) -> Told:
    """Of a voice that speaks each word for 0.1 s; one list of words with each piece of sound."""
    found: Told = []
    caption = Caption(text, begin_ms, lambda stretch, at: found.append((stretch, at)))
    for words in sounds:
        caption.add([Word(word, begin_s, begin_s + 0.1) for word, begin_s in words])
        caption.sound()
    caption.finish()
    assert "".join(stretch for stretch, _ in found) == text
    return found


def test_each_word_begins_where_the_voice_says() -> None:
    words = [("One", 0.0), ("two", 0.5), (",", 0.6), ("three", 2.0)]
    assert told(" One two, three.", words, begin_ms=1000) == [
        (" One", 1000.0),
        (" two", 1500.0),
        (", three", 3000.0),
        (".", 3100.0),
    ]


def test_words_are_told_with_the_sound_that_they_come_with() -> None:
    found: Told = []
    caption = Caption("one two", 0.0, lambda stretch, at: found.append((stretch, at)))
    caption.add([Word("one", 0.0, 0.4)])
    assert not found
    caption.sound()
    assert found == [("one", 0.0)]
    caption.add([Word("two", 0.5, 0.9)])
    caption.sound()
    assert found == [("one", 0.0), (" two", 500.0)]


def test_what_is_spoken_in_other_words_begins_with_the_first_of_them() -> None:
    words = [("It", 0.0), ("costs", 0.2), ("five", 0.5), ("dollars", 0.8), ("now", 1.2)]
    assert told("It costs $5 now.", words) == [
        ("It", 0.0),
        (" costs", 200.0),
        (" $5 ", 500.0),
        ("now", 1200.0),
        (".", 1300.0),
    ]


def test_a_word_is_not_found_inside_another() -> None:
    words = [("an", 0.0), ("hand", 0.3), ("and", 0.6)]
    assert [stretch for stretch, _ in told("an hand and", words)] == ["an", " hand", " and"]


@pytest.mark.parametrize("sounds", [([], []), ([], [("one", 0.0)])])
def test_a_voice_that_begins_without_words_is_told_whole(
    sounds: tuple[list[tuple[str, float]], ...],
) -> None:
    assert told("one two", *sounds) == [("one two", None)]


def test_text_without_sound_is_told_all_the_same() -> None:
    assert told(" (…) ") == [(" (…) ", None)]

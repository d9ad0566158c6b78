import pytest

from bridge.backends.cascade.sentences import MAX_CHARACTERS, SentenceSplitter


def split(*pieces: str) -> list[str]:
    splitter = SentenceSplitter()
    return [part for piece in pieces for part in splitter.feed(piece)] + splitter.finish()


def test_sentences_come_as_soon_as_they_are_whole() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("Hello the") == []
    assert splitter.feed("re. How ") == ["Hello there."]
    assert splitter.feed("are you") == []
    assert splitter.finish() == ["How are you"]


def test_the_first_clause_comes_early_and_later_ones_wait() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("Well, the opening hours are, in short, ") == [
        "Well, the opening hours are,"
    ]
    assert splitter.feed("nine to five on every day, as ever, ") == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Ask Dr. Who. He knows.", ["Ask Dr. Who.", "He knows."]),
        ("It costs 3.50 now. Fine.", ["It costs 3.50 now.", "Fine."]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("One\nTwo", ["One", "Two"]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("", []),
        (" . ", ["."]),
    ],
)
def test_where_text_is_cut(text: str, parts: list[str]) -> None:
    assert split(text) == parts


def test_it_does_not_matter_how_the_text_arrives() -> None:
    text = "I only know a menu. Say sales, support, or goodbye. Or press a key."
    assert split(*text) == split(text)


def test_an_endless_sentence_is_cut_at_a_word() -> None:
    text = "word " * 200
    parts = split(text)
    assert " ".join(parts) == text.strip()
    assert max(map(len, parts)) <= MAX_CHARACTERS

# ruff: noqa: RUF001
import pytest

from bridge.backends.cascade.sentences import MAX_CHARACTERS, SentenceSplitter


def pieces(*texts: str) -> list[str]:
    splitter = SentenceSplitter()
    return [part for text in texts for part in splitter.feed(text)] + splitter.finish()


def split(*texts: str) -> list[str]:
    return [piece.strip() for piece in pieces(*texts)]


def test_sentences_come_as_soon_as_they_are_whole() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("Hello the") == []
    assert splitter.feed("re. How ") == ["Hello there. "]
    assert splitter.feed("are you") == []
    assert splitter.finish() == ["How are you"]


def test_the_first_clause_comes_early_and_later_ones_wait() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("Well, the opening hours are, in short, ") == [
        "Well, the opening hours are, "
    ]
    assert splitter.feed("nine to five on every day, as ever, ") == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Ask Dr. Who. He knows.", ["Ask Dr. Who.", "He knows."]),
        ("It costs 3.50 now. Fine.", ["It costs 3.50 now.", "Fine."]),
        ("Write to a.b@example.com today. Bye.", ["Write to a.b@example.com today.", "Bye."]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("One\nTwo", ["One", "Two"]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("Wait… What?", ["Wait…", "What?"]),
        ("J. R. Tolkien wrote it. Yes.", ["J. R. Tolkien wrote it.", "Yes."]),
        ("It is the U.S. office. Yes.", ["It is the U.S. office.", "Yes."]),
        ("Am 3. Mai um 14.30 Uhr. Gut.", ["Am 3. Mai um 14.30 Uhr.", "Gut."]),
        ("Das ist z.B. hier. Ja.", ["Das ist z.B. hier.", "Ja."]),
        ("We open in 1987. Later we moved.", ["We open in 1987.", "Later we moved."]),
        ("¿Qué tal? ¡Muy bien! Sí.", ["¿Qué tal?", "¡Muy bien!", "Sí."]),
        ("はい。今日は九時から営業しています。", ["はい。", "今日は九時から営業しています。"]),
        ("好的，我明白了。请稍等！", ["好的，我明白了。", "请稍等！"]),
        (
            "我们今天的营业时间是，早上九点到下午五点。",
            ["我们今天的营业时间是，", "早上九点到下午五点。"],
        ),
        ("هل أنت هنا؟ نعم.", ["هل أنت هنا؟", "نعم."]),
        ("नमस्ते। आप कैसे हैं?", ["नमस्ते।", "आप कैसे हैं?"]),
        ("", []),
        (" . ", ["."]),
    ],
)
def test_where_text_is_cut(text: str, parts: list[str]) -> None:
    assert split(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "I only know a menu. Say sales, support, or goodbye. Or press a key.",
        "\n\nFirst of all, let me tell you this, then that.\n\nDone.  ",
        "はい、そうです。では、また。",
    ],
)
def test_the_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces(*text)).rstrip() == text.rstrip()
    assert "".join(pieces(text)).rstrip() == text.rstrip()


def test_it_does_not_matter_how_the_text_arrives() -> None:
    text = "I only know a menu. Say sales, support, or goodbye. Or press a key."
    assert split(*text) == split(text)


def test_an_endless_sentence_is_cut_at_a_word() -> None:
    text = "word " * 200
    parts = split(text)
    assert " ".join(parts) == text.strip()
    assert max(map(len, parts)) <= MAX_CHARACTERS

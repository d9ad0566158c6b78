"""Cuts a stream of text into pieces to speak: the first clause early, then whole sentences."""

import re

FIRST_CLAUSE_CHARACTERS = 24  # shorter ones would be spoken with the fall of a whole sentence
MAX_CHARACTERS = 300  # a sentence this long is cut at a word

SENTENCE_END = re.compile(r"[.!?…]+[\"')\]]*\s+|\n+")
CLAUSE_END = re.compile(r"[,;:]\s+|\s[-\u2013\u2014]\s+")
ABBREVIATIONS = frozenset(
    ("mr.", "mrs.", "ms.", "dr.", "st.", "no.", "vs.", "e.g.", "i.e.", "prof.", "approx.")
)


class SentenceSplitter:
    """Feed text as it is generated; take what can be spoken."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, text: str) -> list[str]:
        self._text += text
        pieces = []
        while (end := self._end()) > 0:
            pieces.append(self._text[:end])
            self._text = self._text[end:]
            self._first = False
        return [piece.strip() for piece in pieces if piece.strip()]

    def finish(self) -> list[str]:
        """What is left, as one piece."""
        rest, self._text, self._first = self._text.strip(), "", True
        return [rest] if rest else []

    def _end(self) -> int:
        for found in SENTENCE_END.finditer(self._text):
            words = self._text[: found.end()].split()
            if not words or words[-1].lower() not in ABBREVIATIONS:
                return found.end()
        if self._first:
            for found in CLAUSE_END.finditer(self._text):
                if found.end() >= FIRST_CLAUSE_CHARACTERS:
                    return found.end()
        if len(self._text) > MAX_CHARACTERS:
            return self._text.rfind(" ", 0, MAX_CHARACTERS) + 1 or MAX_CHARACTERS
        return 0

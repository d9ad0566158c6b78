"""Cuts a stream of text into pieces to speak: the first clause early, then whole sentences."""

import re

FIRST_CLAUSE_CHARACTERS = 24  # shorter ones would be spoken with the fall of a whole sentence
FIRST_CLAUSE_WIDE = 8  # the same in a script whose characters are words
MAX_CHARACTERS = 300  # a sentence this long is cut at a word

# A Latin full stop ends a sentence only before a space: 3.50, example.com, 14.30.
# Escaped are the marks of Urdu, of CJK in full width, and quotes that look like others.
SENTENCE_END = re.compile(
    r"""[.!?…؟\u06d4।॥]+["'”\u2019»)\]]*\s+ | [。\uff01\uff1f｡]+["'”\u2019」』\uff09\]]* | \n+""",
    re.VERBOSE,
)
CLAUSE_END = re.compile(r"[,;:،؛]\s+|\s[-\u2013\u2014]\s+|[\uff0c、\uff1b\uff1a]")
WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
ABBREVIATIONS = frozenset(
    "mr. mrs. ms. dr. st. no. vs. prof. approx. e.g. i.e. etc. jr. sr. inc. ltd. co. dept. fig. "  # noqa: SIM905
    "tel. ext. mt. gen. rev. bzw. z.b. ca. nr. str. evtl. ggf. usw. hr. fr. vgl. inkl. m. mme. "
    "mlle. env. av. sra. srta. ud. uds. núm. pág. sig. dott. ecc. art. p.ej. p.ex.".split()
)
INITIAL = re.compile(r"(?:\w\.)+", re.UNICODE)  # J. R. R. Tolkien, U.S., d.h.
ORDINAL = re.compile(r"\d{1,4}\.")  # in German 3. Mai is a date, and 1. an entry of a list
MORE = re.compile(r"\s*[a-zà-öø-ÿ\d]")


class SentenceSplitter:
    """Feed text as it is generated; take what can be spoken. The pieces together are the text."""

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
        return pieces

    def finish(self) -> list[str]:
        """What is left, as one piece."""
        rest, self._text, self._first = self._text, "", True
        return [rest] if rest.strip() else []

    def _end(self) -> int:
        start = len(self._text) - len(self._text.lstrip())
        ends = (found for found in SENTENCE_END.finditer(self._text, start))
        sentence = next((found.end() for found in ends if not self._goes_on(found)), 0)
        if self._first and (clause := self._first_clause(start, sentence or len(self._text))):
            return clause
        if sentence:
            return sentence
        if len(self._text) - start > MAX_CHARACTERS:
            return (
                self._text.rfind(" ", start, start + MAX_CHARACTERS) + 1 or start + MAX_CHARACTERS
            )
        return 0

    def _first_clause(self, start: int, end: int) -> int:
        for found in CLAUSE_END.finditer(self._text, start, end):
            clause = self._text[start : found.end()]
            least = FIRST_CLAUSE_WIDE if WIDE.search(clause) else FIRST_CLAUSE_CHARACTERS
            if len(clause) >= least:
                return found.end()
        return 0

    def _goes_on(self, found: re.Match[str]) -> bool:
        """Whether this full stop belongs to an abbreviation, an initial or an ordinal number."""
        mark = found.group()
        if mark.strip() != ".":
            return False
        word = self._text[: found.start() + 1].split()[-1].lower().lstrip("(\"'„“«¿¡")
        if word in ABBREVIATIONS:
            return True
        rest = self._text[found.end() :]
        if ORDINAL.fullmatch(word):
            # At the very end of what is known, what follows may still be a month.
            return not rest or MORE.match(rest) is not None or len(word) <= 3
        return INITIAL.fullmatch(word) is not None and (len(word) > 2 or word != "i.")

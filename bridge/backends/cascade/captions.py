"""When each word of a text is spoken, as far as the voice tells: a cut then finds those heard."""

import re
from collections.abc import Callable, Iterator, Sequence

from bridge.backends.cascade.tts import Word

LOOK_AHEAD = 60  # characters of text a voice may speak in words that are not in it: $1,250


class Caption:
    """Tells one piece of text as it sounds: word by word, or all at once by a voice that does not
    know. `tell` gets stretches of it and where they begin, in milliseconds of the whole message;
    None: with the sound that comes next."""

    def __init__(
        self, text: str, begin_ms: float, tell: Callable[[str, float | None], None]
    ) -> None:
        self.begun = False
        """Some of it was heard."""
        self._text = text
        self._begin_ms = begin_ms
        self._tell = tell
        self._words: list[Word] = []
        self._by_word = False
        self._told = 0
        self._since_s = 0.0  # where what is not told yet begins
        self._skipped = False

    def add(self, words: Sequence[Word]) -> None:
        """Of the sound that comes next, and of what comes later."""
        self._words += words

    def sound(self) -> None:
        """The next sound of it comes."""
        if not self.begun:
            self.begun = True
            self._by_word = bool(self._words)
            if not self._by_word:
                self._told = len(self._text)
                self._tell(self._text, None)
        if self._by_word:
            for stretch, begin_s in self._places(self._words):
                self._tell(stretch, self._begin_ms + begin_s * 1000)
        self._words.clear()

    def finish(self) -> None:
        """No more sound of it comes; there may have been none, if nothing in it can be spoken."""
        rest = self._text[self._told :]
        if rest:
            self._tell(rest, self._begin_ms + self._since_s * 1000 if self.begun else None)

    def _places(self, words: Sequence[Word]) -> Iterator[tuple[str, float]]:
        for word in words:
            spoken = word.text.strip()
            if not any(map(str.isalnum, spoken)):
                continue
            found = re.compile(rf"(?<!\w){re.escape(spoken)}", re.IGNORECASE).search(
                self._text, self._told, self._told + LOOK_AHEAD
            )
            if found is None:
                # Written in another way: it begins where the first word of it does.
                self._since_s = self._since_s if self._skipped else word.begin_s
                self._skipped = True
                continue
            before = self._text[self._told : found.start()]
            begin = found.start()
            if any(map(str.isalnum, before)):
                yield before, self._since_s
            else:
                begin = self._told
            yield self._text[begin : found.end()], word.begin_s
            self._told, self._since_s, self._skipped = found.end(), word.end_s, False

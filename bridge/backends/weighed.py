"""Words that a recogniser heard, and how sure it is of each token if it was asked and can tell."""

from collections.abc import Iterable, Sequence
from typing import Self

import msgspec

from bridge.backends.base import Logprobs


class Logprob(msgspec.Struct):
    """As servers send it."""

    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None


class Weighed(str):
    """A transcript, or a piece of one."""

    __slots__ = ("logprobs",)
    logprobs: Logprobs

    def __new__(cls, words: str, logprobs: Logprobs = ()) -> Self:
        self = super().__new__(cls, words)
        self.logprobs = logprobs
        return self


def told(found: Iterable[Logprob] | None) -> Logprobs:
    """In the shape of the Realtime API, which always names the bytes."""
    return tuple(
        {
            "token": each.token,
            "logprob": each.logprob,
            "bytes": each.bytes or list(each.token.encode("utf-8", "replace")),
        }
        for each in found or ()
    )


def weights(pieces: Sequence[str]) -> Logprobs:
    """Of all of them; none if one piece was not weighed."""
    weighed = [piece.logprobs for piece in pieces if isinstance(piece, Weighed)]
    if len(weighed) < len(pieces) or not all(weighed):
        return ()
    return tuple(each for logprobs in weighed for each in logprobs)

"""What the caller says, on its way to the model."""

from collections.abc import Callable

import numpy as np

from bridge.backends.base import Pcm
from bridge.backends.upstream.caller import Coder
from bridge.load import LOAD, Load

Coded = tuple[bytes, str]
"""Octets of G.711, and by which law."""


class Appends:
    """A message for each frame; while there is little time, for two of them. Nothing else that is
    done with a frame takes as long as to send one.

    `send` gets base64 and the number of samples.
    """

    def __init__(self, coder: Coder, send: Callable[[bytes, int], None], load: Load = LOAD) -> None:
        self._coder = coder
        self._send = send
        self._load = load
        self._held: tuple[Pcm, Coded | None] | None = None

    def push(self, pcm: Pcm, coded: Coded | None = None) -> None:
        """`coded`: the same."""
        held, self._held = self._held, None
        if held is not None:
            self._say(np.concatenate((held[0], pcm)), _joined(held[1], coded))
        elif self._load.high:
            self._held = pcm, coded
        else:
            self._say(pcm, coded)

    def flush(self) -> None:
        """Before what must come after it."""
        held, self._held = self._held, None
        if held is not None:
            self._say(*held)

    def _say(self, pcm: Pcm, coded: Coded | None) -> None:
        audio = None if coded is None else self._coder.relay(*coded)
        self._send(audio or self._coder.encode(pcm), len(pcm))


def _joined(first: Coded | None, second: Coded | None) -> Coded | None:
    if first is None or second is None or first[1] != second[1]:
        return None
    return first[0] + second[0], first[1]

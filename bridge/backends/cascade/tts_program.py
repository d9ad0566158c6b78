"""The espeak-ng program: text in on stdin, sound out on stdout.

espeak-ng is GPL: it is loaded here, in a process of its own, and nowhere else. It keeps global
state, so one sentence is spoken at a time; eight seconds of speech take it 20 ms.
"""

import ctypes
import os
import select
import signal
import sys
from collections import deque
from itertools import count as counter, takewhile
from typing import BinaryIO, cast

import espeakng_loader

from bridge.backends.cascade import pipes

AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARS_UTF8 = 1
RATE_PARAMETER = 1
BUFFER_MS = 60
FIRST_BYTES = 1_000  # the first piece leaves at once
NEXT_BYTES = 11_025  # a quarter of a second: fewer pieces, less work on the other side

LAST_EVENT = 0
WORD_EVENT = 1


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; its `text_position` counts characters from 1."""


Event._fields_ = [
    ("type", ctypes.c_int),
    ("unique_identifier", ctypes.c_uint),
    ("text_position", ctypes.c_int),
    ("length", ctypes.c_int),
    ("audio_position", ctypes.c_int),
    ("sample", ctypes.c_int),
    ("user_data", ctypes.c_void_p),
    ("id", ctypes.c_char * 8),
]

Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
)


class Speaker:
    """Requests come from `stdin`, which must be unbuffered: `select` watches it."""

    def __init__(self, stdin: BinaryIO) -> None:
        self._stdin = stdin
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate: int = library.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, BUFFER_MS, os.fsencode(espeakng_loader.get_data_path()), 0
        )
        if self.rate <= 0:
            raise OSError("espeak-ng found no voices")
        self._library = library
        self._voice = ""
        # ctypes keeps no reference of its own: the callback must outlive the library's use.
        self._callback = Callback(self._heard)
        library.espeak_SetSynthCallback(self._callback)
        self._waiting: deque[pipes.ToProgram] = deque()
        self._job = 0
        self._piece = bytearray()
        self._words: list[tuple[int, int, int]] = []
        self._least = FIRST_BYTES
        self._stopped = False
        self._closed = False

    def serve(self) -> None:
        send(pipes.Ready())
        while not self._closed:
            if self._waiting:
                request: pipes.ToProgram | None = self._waiting.popleft()
            else:
                request = pipes.read_request(self._stdin)
            match request:
                case None:
                    return
                case pipes.Speak():
                    self._speak(request)
                case _:
                    pass

    def _speak(self, request: pipes.Speak) -> None:
        if request.voice != self._voice:
            if self._library.espeak_SetVoiceByName(request.voice.encode()) != 0:
                send(pipes.Failed(request.job, f"espeak-ng has no voice {request.voice}"))
                return
            self._voice = request.voice
        self._library.espeak_SetParameter(RATE_PARAMETER, request.words_per_minute, 0)
        self._job, self._least, self._stopped = request.job, FIRST_BYTES, False
        self._piece.clear()
        self._words.clear()
        text = request.text.replace("\0", " ").encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        if self._piece and not self._stopped:
            self._flush()
        send(pipes.Spoken(request.job))

    def _heard(
        self,
        samples: "ctypes._Pointer[ctypes.c_short]",
        count: int,
        events: "ctypes._Pointer[Event]",
    ) -> int:
        """Called by espeak-ng with each buffer; 1 makes it stop."""
        told = map(events.__getitem__, counter())
        for event in takewhile(lambda each: each.type != LAST_EVENT, told):
            if event.type == WORD_EVENT:
                word = (event.text_position - 1, event.length, event.audio_position)
                self._words.append(word)
        if count > 0:
            self._piece += ctypes.string_at(samples, count * 2)
        if len(self._piece) >= self._least:
            self._flush()
            self._least = NEXT_BYTES
            self._listen()
        return int(self._stopped)

    def _flush(self) -> None:
        send(pipes.Sound(self._job, self.rate, bytes(self._piece), self._words))
        self._piece.clear()
        self._words.clear()

    def _listen(self) -> None:
        while ready(self._stdin):
            request = pipes.read_request(self._stdin)
            if request is None:
                self._stopped = self._closed = True
                return
            if isinstance(request, pipes.Stop):
                self._stopped = self._stopped or request.job == self._job
            else:
                self._waiting.append(request)


def ready(stream: BinaryIO) -> bool:
    return bool(select.select([stream], [], [], 0)[0])


def send(message: pipes.FromProgram) -> None:
    sys.stdout.buffer.write(pipes.frame(message))
    sys.stdout.buffer.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ends with its parent, by the pipe
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stdin:
        Speaker(cast(BinaryIO, stdin)).serve()


if __name__ == "__main__":
    main()

"""The wire between this process and its speech programs: length-prefixed MessagePack on pipes."""

import struct
from typing import BinaryIO

import msgspec

LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 64 * 1024 * 1024  # twenty minutes of one utterance


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The program has loaded what it needs."""


class Recognise(msgspec.Struct, frozen=True, tag=True):
    """`pcm`: int16 at 24 kHz. `phrases` None asks for free dictation."""

    job: int
    pcm: bytes
    phrases: list[str] | None


class Recognised(msgspec.Struct, frozen=True, tag=True):
    """`text` is "" for silence; `unknown` are words of the phrases that have no pronunciation."""

    job: int
    text: str
    unknown: list[str]


class Speak(msgspec.Struct, frozen=True, tag=True):
    job: int
    text: str
    voice: str
    words_per_minute: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Abandon a Speak; its Spoken still follows."""

    job: int


class Sound(msgspec.Struct, frozen=True, tag=True):
    """`pcm`: int16 at `rate`. `words` begin in it: their place in the text, their length, and the
    milliseconds of sound since the text began."""

    job: int
    rate: int
    pcm: bytes
    words: list[tuple[int, int, int]] = []


class Spoken(msgspec.Struct, frozen=True, tag=True):
    job: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    job: int
    message: str


ToProgram = Recognise | Speak | Stop
FromProgram = Ready | Recognised | Sound | Spoken | Failed

_encoder = msgspec.msgpack.Encoder()
_to_program: msgspec.msgpack.Decoder[ToProgram] = msgspec.msgpack.Decoder(ToProgram)
_from_program: msgspec.msgpack.Decoder[FromProgram] = msgspec.msgpack.Decoder(FromProgram)


def frame(message: ToProgram | FromProgram) -> bytes:
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def decode_reply(body: bytes) -> FromProgram:
    """Raises msgspec.ValidationError or msgspec.DecodeError."""
    return _from_program.decode(body)


def read_request(stream: BinaryIO) -> ToProgram | None:
    """The next request, blocking; None when the pipe was closed."""
    head = read_exactly(stream, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    body = read_exactly(stream, length)
    return None if body is None else _to_program.decode(body)


def read_exactly(stream: BinaryIO, count: int) -> bytes | None:
    """An unbuffered stream gives what there is, so ask until it is all there."""
    data = bytearray()
    while len(data) < count:
        piece = stream.read(count - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)

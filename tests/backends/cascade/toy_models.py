"""Models for sherpa-onnx that fit on a page: a recogniser of loudness, a voice that beeps.

They are written as ONNX files by hand, since nothing else here needs the package that does it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FLOAT, INT64 = 1, 7
BEEP = 800  # samples of a token
VOICE_RATE = 16_000
Shape = Sequence[int | str]


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes((*octets, value))


def node(kind: str, inputs: str, outputs: str, **attributes: int | list[int]) -> bytes:
    told = b"".join(field(1, name) for name in inputs.split())
    told += b"".join(field(2, name) for name in outputs.split())
    told += field(4, kind)
    for name, value in attributes.items():
        many = isinstance(value, list)
        values = value if isinstance(value, list) else [value]
        data = b"".join(field(8 if many else 3, each) for each in values)
        told += field(5, field(1, name) + data + field(20, 7 if many else 2))
    return field(1, told)


def tensor(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    kind = FLOAT if values.dtype == np.float32 else INT64
    dims = b"".join(field(1, size) for size in values.shape)
    return field(5, dims + field(2, kind) + field(8, name) + field(9, values.tobytes()))


def value(number: int, name: str, kind: int, shape: Shape) -> bytes:
    """An input, 11, or an output, 12."""
    sizes = (field(1, size) if isinstance(size, int) else field(2, size) for size in shape)
    dims = b"".join(field(1, size) for size in sizes)
    return field(number, field(1, name) + field(2, field(1, field(1, kind) + field(2, dims))))


def write(path: Path, *parts: bytes, **metadata: object) -> None:
    graph = b"".join(parts) + field(2, "toy")
    told = b"".join(
        field(14, field(1, name) + field(2, str(value))) for name, value in metadata.items()
    )
    opset = field(8, field(1, "") + field(2, 13))
    path.write_bytes(field(1, 8) + opset + field(7, graph) + told)


def floats(values: object) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def recogniser(folder: Path) -> Path:
    """Of family nemo-ctc: hears "beep" for each stretch of sound."""
    write(
        folder / "model.onnx",
        node("ReduceMean", "audio_signal", "mean", axes=[1], keepdims=1),
        node("Transpose", "mean", "frames", perm=[0, 2, 1]),
        node("Mul", "frames weight", "scaled"),
        node("Add", "scaled bias", "logits"),
        node("LogSoftmax", "logits", "logprobs", axis=2),
        tensor("weight", floats([[[1, 0]]])),
        tensor("bias", floats([[[8, 0]]])),
        value(11, "audio_signal", FLOAT, ["N", 80, "T"]),
        value(11, "length", INT64, ["N"]),
        value(12, "logprobs", FLOAT, ["N", "T", 2]),
        model_type="EncDecCTCModelBPE",
        vocab_size=1,
        subsampling_factor=1,
        normalize_type="",
    )
    (folder / "tokens.txt").write_text("▁beep 0\n<blk> 1\n")
    return folder


def streaming_recogniser(folder: Path) -> Path:
    """Of family streaming-transducer: hears "beep" for every 40 ms of sound."""
    states: Mapping[str, Shape] = {"h": [1, "N", 1], "c": [1, "N", 1]}
    write(
        folder / "encoder.onnx",
        node("ReduceMean", "x", "mean", axes=[2], keepdims=1),
        node("Slice", "mean first last axis", "chunk"),
        node("ReduceMean", "chunk", "encoder_out", axes=[1], keepdims=1),
        node("Identity", "h", "next_h"),
        node("Identity", "c", "next_c"),
        *(tensor(name, np.array([n])) for name, n in (("first", 0), ("last", 4), ("axis", 1))),
        value(11, "x", FLOAT, ["N", 9, 80]),
        *(value(11, name, FLOAT, shape) for name, shape in states.items()),
        value(12, "encoder_out", FLOAT, ["N", 1, 1]),
        *(value(12, f"next_{name}", FLOAT, shape) for name, shape in states.items()),
        model_type="lstm",
        num_encoder_layers=1,
        T=9,
        decode_chunk_len=4,
        rnn_hidden_size=1,
        d_model=1,
    )
    write(
        folder / "decoder.onnx",
        node("Cast", "y", "float", to=FLOAT),
        node("ReduceMean", "float", "decoder_out", axes=[1], keepdims=1),
        value(11, "y", INT64, ["N", 1]),
        value(12, "decoder_out", FLOAT, ["N", 1]),
        vocab_size=2,
        context_size=1,
    )
    write(
        folder / "joiner.onnx",
        node("Mul", "encoder_out weight", "scaled"),
        node("Add", "scaled bias", "logit"),
        tensor("weight", floats([[0, 1]])),
        tensor("bias", floats([[0, 8]])),
        value(11, "encoder_out", FLOAT, ["N", 1]),
        value(11, "decoder_out", FLOAT, ["N", 1]),
        value(12, "logit", FLOAT, ["N", 2]),
        joiner_dim=1,
    )
    (folder / "tokens.txt").write_text("<blk> 0\n▁beep 1\n")
    return folder


def voice(folder: Path) -> Path:
    """Of family vits: a beep for each letter of the words it knows."""
    beep = np.sin(2 * np.pi * 440 * np.arange(BEEP) / VOICE_RATE) / 4
    write(
        folder / "voice.onnx",
        node("Cast", "input", "ids", to=FLOAT),
        node("Mul", "ids zero", "nothing"),
        node("Unsqueeze", "nothing last", "tokens"),
        node("Add", "tokens beep", "beeps"),
        node("Reshape", "beeps flat", "output"),
        tensor("zero", floats([[0]])),
        tensor("last", np.array([2])),
        tensor("beep", floats(beep).reshape(1, 1, BEEP)),
        tensor("flat", np.array([1, 1, -1])),
        value(11, "input", INT64, ["N", "T"]),
        value(11, "input_lengths", INT64, ["N"]),
        value(11, "scales", FLOAT, [3]),
        value(12, "output", FLOAT, ["N", 1, "S"]),
        model_type="vits",
        comment="piper",
        language="English",
        voice="en-us",
        has_espeak=1,
        n_speakers=1,
        sample_rate=VOICE_RATE,
        add_blank=0,
    )
    (folder / "tokens.txt").write_text("_ 0\n^ 1\n$ 2\n  3\nb 4\np 5\n. 6\n! 7\n, 8\n? 9\n")
    (folder / "lexicon.txt").write_text("bip b b p\nbop b p\n")
    return folder

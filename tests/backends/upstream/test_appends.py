import base64

import numpy as np

from bridge.backends.upstream.appends import Appends
from bridge.backends.upstream.caller import Coder
from bridge.load import Load


def frame(level: int) -> np.ndarray:
    return np.full(480, level, np.int16)


def appends(name: str = "audio/pcm") -> tuple[Appends, Load, list[tuple[bytes, int]]]:
    load, sent = Load(), []
    pushed = Appends(
        Coder(name), lambda audio, count: sent.append((base64.b64decode(audio), count)), load
    )
    return pushed, load, sent


def test_a_frame_a_message_and_two_while_there_is_little_time() -> None:
    pushed, load, sent = appends()
    pushed.push(frame(1))
    load.high = True
    for level in (2, 3, 4):
        pushed.push(frame(level))
    load.high = False
    # What was held goes with the next, and nothing is held after it.
    pushed.push(frame(5))
    pushed.push(frame(6))
    assert [count for _, count in sent] == [480, 960, 960, 480]
    heard = np.frombuffer(b"".join(audio for audio, _ in sent), np.int16)
    assert heard.reshape(-1, 480)[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_what_is_held_goes_before_what_must_come_after_it() -> None:
    pushed, load, sent = appends()
    load.high = True
    pushed.push(frame(1))
    assert sent == []
    pushed.flush()
    pushed.flush()
    assert [count for _, count in sent] == [480]


def test_octets_of_the_wire_go_as_they_are() -> None:
    pushed, load, sent = appends("audio/pcmu")
    load.high = True
    pushed.push(frame(1), (b"\x01" * 160, "PCMU"))
    pushed.push(frame(2), (b"\x02" * 160, "PCMU"))
    assert sent == [(b"\x01" * 160 + b"\x02" * 160, 960)]
    # Where only one of two has them both are coded.
    pushed.push(frame(0), (b"\xff" * 160, "PCMU"))
    pushed.push(frame(0))
    assert [len(audio) for audio, _ in sent] == [320, 320]

import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import Counter

from bridge import metrics
from bridge.audio.frames import MODEL_FRAME, Pcm
from bridge.errors import ConfigError
from bridge.media.recorder import BLOCK, MAX_WAITING, Recorder, Recording, Track


def frame(value: int) -> Pcm:
    return np.full(MODEL_FRAME, value, np.int16)


def talk(recording: Recording, frames: int, first: int = 1) -> None:
    for n in range(first, first + frames):
        recording.tap.say(frame(n))
        recording.tap.hear(frame(-n))


def read(path: Path, channels: int = 2) -> Pcm:
    """(frames of 20 ms, channels): the first sample of each."""
    with wave.open(str(path), "rb") as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        assert form == (channels, 2, 24_000)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    pcm: Pcm = samples.reshape(-1, MODEL_FRAME, channels)[:, 0]
    return pcm


def value(counter: Counter) -> float:
    (family,) = counter.collect()
    return family.samples[0].value


def test_a_call_is_one_file_both_sides_in_step(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "new" / "folder")
    recording = recorder.record("rtc_1")
    talk(recording, 123)
    recording.close()
    recording.close()
    recorder.close()
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["rtc_1.wav"]
    assert recording.path.stat().st_mode & 0o777 == 0o600
    heard = read(recording.path)
    assert heard[:, 0].tolist() == list(range(1, 124))
    assert heard[:, 1].tolist() == [-n for n in range(1, 124)]


def test_calls_at_once_do_not_mix(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recordings = [recorder.record(f"rtc_{n}") for n in range(20)]
    for second in range(3):
        for n, recording in enumerate(recordings):
            talk(recording, 50, first=1 + 1000 * n + 50 * second)
    recorder.close()
    for n, recording in enumerate(recordings):
        assert read(recording.path)[:, 0].tolist() == list(range(1 + 1000 * n, 151 + 1000 * n))


def test_what_is_written_can_be_played_while_the_call_goes_on(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recording = recorder.record("rtc_1")
    talk(recording, 175)
    written = threading.Event()
    # The thread takes orders in turn: this one is done after those before.
    other = recorder.record("rtc_2")
    other.close()
    while not other.path.exists() or not len(read(recording.path)):
        written.wait(0.01)
    assert read(recording.path)[:, 0].tolist() == list(range(1, 151))
    recorder.close()
    assert len(read(recording.path)) == 175


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "rtc_1.wav").write_bytes(b"kept")
    failures = value(metrics.recordings_failed)
    recorder = Recorder(tmp_path)
    first, second = recorder.record("rtc_1"), recorder.record("rtc_2")
    talk(first, 120)
    talk(second, 120)
    recorder.close()
    assert (tmp_path / "rtc_1.wav").read_bytes() == b"kept"
    assert len(read(second.path)) == 120
    assert value(metrics.recordings_failed) == failures + 1


def test_a_folder_that_cannot_be_written_to_is_found_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"store\.recordings_path"):
        Recorder(tmp_path / "file" / "folder")


class Stuck(Recorder):
    """Its disk takes nothing until `go`."""

    def __init__(self, folder: Path) -> None:
        self.go = threading.Event()
        self.stuck = threading.Event()
        super().__init__(folder)

    def _write(self, recording: Track, block: Pcm, *, last: bool) -> None:
        self.stuck.set()
        self.go.wait()
        super()._write(recording, block, last=last)


def test_a_disk_that_stands_still_holds_nobody_up_and_fills_no_memory(tmp_path: Path) -> None:
    dropped = value(metrics.recording_dropped_s)
    recorder = Stuck(tmp_path)
    recording = recorder.record("rtc_1")
    second = BLOCK + 7
    recorder.write(recording, second)
    recorder.stuck.wait()
    for _ in range(MAX_WAITING + 40):
        recorder.write(recording, second)
    assert value(metrics.recording_dropped_s) == dropped + 40
    recorder.go.set()
    recorder.close()
    seconds = read(recording.path)[:, 0].reshape(-1, 50)
    assert len(seconds) == 1 + MAX_WAITING + 40
    assert int((seconds == 0).all(axis=1).sum()) == 40


def test_one_voice_has_a_file_of_its_own_or_none(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    kept, dropped, empty = (recorder.track(name) for name in ("kept", "dropped", "empty"))
    for n in range(1, 61):
        kept.add(frame(n))
        dropped.add(frame(n))
    kept.close()
    dropped.close(keep=False)
    empty.close(keep=False)
    again = recorder.track("dropped")
    again.add(frame(7))
    again.close()
    recorder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dropped.wav", "kept.wav"]
    assert read(kept.path, 1)[:, 0].tolist() == list(range(1, 61))
    assert read(again.path, 1)[:, 0].tolist() == [7]

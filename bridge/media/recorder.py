"""Recordings: a WAV file of a call, stereo, the caller left and the model right, or of one voice;
all by one thread.

The loop hands over a second at a time and never waits: if the disk is too slow, whole seconds are
left out as silence, and counted. Every second written leaves a file that can be played.
"""

import logging
import os
import threading
import wave
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from bridge import metrics
from bridge.audio.frames import FRAMES_PER_SECOND, MODEL_FRAME, MODEL_RATE, Pcm
from bridge.errors import ConfigError
from bridge.media.taps import Tap

log = logging.getLogger(__name__)

MAX_WAITING = 600  # seconds of all calls: 58 MB
WIDTH = 2
BLOCK = np.zeros((FRAMES_PER_SECOND * MODEL_FRAME, 2), np.int16)


class _File:
    """Complete after each `write`: its header has the right lengths. Raises OSError."""

    def __init__(self, path: Path, channels: int) -> None:
        # Never over another one.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._raw = os.fdopen(os.open(path, flags, 0o600), "wb")
        self._wave = wave.Wave_write(self._raw)
        self._wave.setnchannels(channels)
        self._wave.setsampwidth(WIDTH)
        self._wave.setframerate(MODEL_RATE)

    def write(self, block: Pcm) -> None:
        self._wave.writeframes(block.tobytes())
        self._raw.flush()

    def close(self) -> None:
        self._wave.close()
        self._raw.close()


class Track:
    """One file, by frames of 20 ms of each of its channels."""

    def __init__(self, recorder: "Recorder", path: Path, channels: int = 1) -> None:
        self.path = path
        self.channels = channels
        self.kept = True
        self._recorder = recorder
        self._block = BLOCK[:, :channels].copy()
        self._filled = 0

    def add(self, *sides: Pcm) -> None:
        end = self._filled + MODEL_FRAME
        for channel, side in enumerate(sides):
            self._block[self._filled : end, channel] = side
        self._filled = end
        if end == len(self._block):
            self._recorder.write(self, self._block)
            self._block = BLOCK[:, : self.channels].copy()
            self._filled = 0

    def close(self, *, keep: bool = True) -> None:
        """The file is complete soon after, or there is none. Idempotent."""
        if self._recorder.knows(self):
            self.kept = keep
            self._recorder.write(self, self._block[: self._filled], last=True)


class Recording(Track):
    """One call's. `tap` goes to its stream, and to the next one if the call moves."""

    def __init__(self, recorder: "Recorder", path: Path) -> None:
        super().__init__(recorder, path, channels=2)
        self.tap = Tap(self.add)

    def close(self, *, keep: bool = True) -> None:
        self.tap.flush()
        super().close(keep=keep)


class Recorder:
    """Files go into `folder`, which is made. Raises ConfigError if they cannot."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            raise ConfigError(
                f"store.recordings_path {folder} cannot be written to: {error.strerror}",
                param="store.recordings_path",
            ) from None
        self._folder = folder
        self._open: set[Track] = set()
        self._orders: SimpleQueue[tuple[Track, Pcm, bool] | None] = SimpleQueue()
        self._files: dict[Track, _File] = {}
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, name: str) -> Recording:
        """`name` becomes the file's."""
        recording = Recording(self, self._folder / f"{name}.wav")
        self._open.add(recording)
        return recording

    def track(self, name: str) -> Track:
        """Likewise, of one voice."""
        track = Track(self, self._folder / f"{name}.wav")
        self._open.add(track)
        return track

    def knows(self, recording: Track) -> bool:
        """Whether it is still open."""
        return recording in self._open

    def write(self, recording: Track, block: Pcm, *, last: bool = False) -> None:
        """From the loop: `block` is not touched any more."""
        if last:
            self._open.discard(recording)
        elif self._orders.qsize() >= MAX_WAITING:
            # An empty second of the same array costs no memory.
            metrics.recording_dropped_s.inc()
            block = BLOCK[:, : recording.channels]
        self._orders.put((recording, block, last))

    def close(self) -> None:
        """All that was handed over is on disk. Waits for the thread; idempotent."""
        for recording in list(self._open):
            recording.close()
        if self._thread.is_alive():
            self._orders.put(None)
            self._thread.join()

    # The thread

    def _run(self) -> None:
        failed: set[Track] = set()
        while (order := self._orders.get()) is not None:
            recording, block, last = order
            if recording not in failed:
                try:
                    self._write(recording, block, last=last)
                except OSError as error:
                    failed.add(recording)
                    metrics.recordings_failed.inc()
                    log.error(
                        "recording failed", extra={"file": recording.path.name, "why": str(error)}
                    )
            if last:
                failed.discard(recording)
                self._files.pop(recording, None)

    def _write(self, recording: Track, block: Pcm, *, last: bool) -> None:
        file = self._files.get(recording)
        if file is None:
            file = self._files[recording] = _File(recording.path, recording.channels)
        file.write(block)
        if last:
            file.close()
            if not recording.kept:
                recording.path.unlink()

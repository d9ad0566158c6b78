"""Noise for the gaps of the model's speech: a line that is digitally silent sounds dead."""

import numpy as np

from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, Pcm

SECONDS = 5  # long enough that nobody hears it come round
SMOOTHED = 6  # samples: a rumble of the room, not a hiss


class ComfortNoise:
    """The same noise for all calls; `level_dbfs` is its RMS. Raises ValueError for 0 and above."""

    def __init__(self, level_dbfs: float) -> None:
        if level_dbfs >= 0:
            raise ValueError("comfort noise is quieter than full scale")
        rng = np.random.default_rng(3389)
        kernel = np.hanning(SMOOTHED + 2)[1:-1]
        white = rng.standard_normal(SECONDS * MODEL_RATE)
        # Circular, so that the end joins the beginning.
        noise = np.fft.irfft(np.fft.rfft(white) * np.fft.rfft(kernel, len(white)), len(white))
        noise *= 32768 * 10 ** (level_dbfs / 20) / np.sqrt(np.mean(noise**2))
        frames = np.rint(noise).clip(-32768, 32767).astype(np.int16).reshape(-1, MODEL_FRAME)
        frames.flags.writeable = False
        self._frames = frames
        self._next = 0

    def frame(self) -> Pcm:
        """20 ms, read only. Calls take turns, so each hears another order of frames."""
        self._next = (self._next + 1) % len(self._frames)
        frame: Pcm = self._frames[self._next]
        return frame


def comfort_noise(level_dbfs: float) -> ComfortNoise | None:
    """0: none."""
    return ComfortNoise(level_dbfs) if level_dbfs else None

"""What the callers of the bench say: spurts of something like a voice, silence between."""

import numpy as np

from bridge.audio.g711 import ulaw_encode
from bridge.audio.opus import OpusEncoder
from tests.bench.wire import Script

SPURT_FRAMES, PAUSE_FRAMES = 120, 30
FRAMES_PER_SECOND = 50


def voice(rate: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """One round of the script: vowels at 120 Hz, loud from the first millisecond on, then nothing.

    Its packets cost a codec what speech costs; noise keeps them from being all alike.
    """
    samples = rate // FRAMES_PER_SECOND * SPURT_FRAMES
    time = np.arange(samples) / rate
    rng = np.random.default_rng(7)
    pitch = 2 * np.pi * np.cumsum(120 + 25 * np.sin(2 * np.pi * 0.7 * time)) / rate
    sound = np.zeros(samples)
    for harmonic in range(1, 30):
        if harmonic * 145 < 0.45 * rate:
            formant = sum(np.exp(-((harmonic * 120 - at) ** 2) / 3e4) for at in (500, 1500, 2500))
            sound += (0.15 + formant) * np.sin(harmonic * pitch + harmonic**2)
    sound += 0.3 * rng.standard_normal(samples)
    sound *= 0.75 + 0.25 * np.cos(2 * np.pi * 3 * time)
    sound *= 16_000 / np.abs(sound).max()
    silence = np.zeros(rate // FRAMES_PER_SECOND * PAUSE_FRAMES)
    return np.concatenate((sound, silence)).astype(np.int16)


def pcmu() -> Script:
    octets = ulaw_encode(voice(8000)).tobytes()
    payloads = tuple(octets[at : at + 160] for at in range(0, len(octets), 160))
    return Script(payloads, SPURT_FRAMES, 160, opus=False)


def opus() -> Script:
    """As browsers send: 32 kbit/s of voice. The pause is CELT's three octets of true silence.

    Voice that a decoder makes of silence is not quite silent, and what a server encodes again
    would be as long as sound; lengths are all the wire looks at.
    """
    sound = voice(24_000).reshape(-1, 480)
    encoder, quiet = OpusEncoder(24_000, application="voip"), OpusEncoder(24_000)
    # The second round, which follows a first.
    _, payloads = [[encoder.encode(frame) for frame in sound] for _ in range(2)]
    silence = [quiet.encode(sound[-1]) for _ in range(2 * PAUSE_FRAMES)][PAUSE_FRAMES:]
    encoder.close()
    quiet.close()
    return Script((*payloads[:SPURT_FRAMES], *silence), SPURT_FRAMES, 960, opus=True)

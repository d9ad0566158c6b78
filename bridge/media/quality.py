"""How well a call can be understood, estimated from loss and delay by the E-model (ITU-T G.107).

The short form: everything but codec, loss and delay is at G.107's defaults. The scale is that of a
narrow-band telephone, on which G.711 without loss is 4.4; wide-band codecs are not given more.
"""

R_DEFAULT = 93.2  # G.107 table 2, all parameters at their defaults
ROBUSTNESS = 25.1  # Bpl of G.711 with concealment (G.113 appendix I)
KNEE_MS = 177.3  # delay from which a conversation suffers


def rating(loss: float, delay_ms: float) -> float:
    """The R factor, 0 to 93.2. `loss`: of packets, 0 to 1, concealed; `delay_ms`: mouth to ear."""
    percent = 100 * min(max(loss, 0.0), 1.0)
    impairment = 95 * percent / (percent + ROBUSTNESS)
    delay = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - KNEE_MS)
    return max(0.0, R_DEFAULT - impairment - delay)


def mean_opinion_score(r: float) -> float:
    """1 to 4.5 (G.107 annex B)."""
    if r <= 0:
        return 1.0
    r = min(r, 100.0)
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def estimated_mos(loss: float, delay_ms: float = 0.0) -> float:
    """To two digits."""
    return round(mean_opinion_score(rating(loss, delay_ms)), 2)

"""Where the model is and what becomes of a call when it fails, as the configuration names them."""

from dataclasses import dataclass
from typing import Literal

Fallback = Literal["hangup", "transfer", "cascade", "echo"]


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """The configuration has the defaults."""

    url: str
    api_key: str
    model: str
    dialect: str
    voice: str
    """Instead of the session's."""
    transcription: str
    """A model that writes down the caller where the session asks for none."""
    audio: Literal["pcm", "pcmu", "pcma"]
    local_vad: bool
    """Listen for an interruption here too, and pause the agent until the server has heard it."""
    tls_ca: str
    connect_timeout_s: float
    ready_timeout_s: float
    """How long a call rings on for the model's first word; the caller is kept for it after that."""
    stall_timeout_s: float
    flow_timeout_s: float
    """As `stall_timeout_s` in the middle of a message, and wherever the server answers no ping."""
    session_limit_s: float
    """0: the dialect's own."""
    fallback: Fallback
    fallback_target: str
    """Also of a call that the other backend cannot take."""
    apology: str
    """A WAV file."""

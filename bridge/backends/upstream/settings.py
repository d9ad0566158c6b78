"""Where the model is and what becomes of a call when it fails, as the configuration names them."""

from dataclasses import dataclass
from typing import Literal

Fallback = Literal["hangup", "transfer", "cascade", "echo"]


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    url: str
    api_key: str = ""
    model: str = ""
    dialect: str = "openai"
    voice: str = ""
    """Instead of the session's."""
    transcription: str = ""
    """A model that writes down the caller where the session asks for none."""
    audio: Literal["pcm", "pcmu", "pcma"] = "pcm"
    tls_ca: str = ""
    connect_timeout_s: float = 5.0
    ready_timeout_s: float = 1.0
    """How long a call rings on for the model's first word; the caller is kept for it after that."""
    stall_timeout_s: float = 8.0
    session_limit_s: float = 0.0
    """0: the dialect's own."""
    fallback: Fallback = "hangup"
    fallback_target: str = ""
    apology: str = ""
    """A WAV file."""

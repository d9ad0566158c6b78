"""What is fixed for the life of a session."""

from dataclasses import dataclass

from bridge.backends.tools import Opener, no_servers
from bridge.media.apm import NOTHING, Wanted


@dataclass(frozen=True, slots=True)
class Terms:
    on_call: bool
    expires_at: int
    """UNIX seconds."""
    greeting: str = ""
    strict_voice: bool = False
    tool_servers: Opener = no_servers
    cleaning: Wanted = NOTHING

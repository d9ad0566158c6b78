"""One Realtime session as a protocol: client and model events in, server events and orders out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bridge import ids
from bridge.realtime.outputs import Output, Pcm
from bridge.realtime.session_config import SessionConfig


class WireAudio(Protocol):
    """Turns appended bytes into 24 kHz samples and back, for one direction of one format."""

    def decode(self, data: bytes, /) -> Pcm: ...

    def encode(self, pcm: Pcm, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator may choose about the protocol."""

    strict_voice: bool = False
    """Refuse a session.update that changes the voice after assistant audio, as OpenAI does."""
    kept_audio_s: float = 20.0
    """Newest audio of items kept for conversation.item.retrieved; older items keep words only."""
    wire_audio: Callable[[str], WireAudio] | None = None
    """Codec by session format ("audio/pcmu", "audio/pcma"); without it only audio/pcm is heard."""


class RealtimeServer:
    """The server side of one session. Nothing here reads a clock or touches a socket.

    Every method may queue outputs; the owner calls `take()` after each and acts on them in order.
    `now` is the owner's monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        session_id: str,
        config: SessionConfig,
        on_call: bool,
        expires_at: int,
        now: float,
        new_id: Callable[[str], str] = ids.new_id,
        policy: Policy = Policy(),
    ) -> None: ...

    @property
    def config(self) -> SessionConfig:
        raise NotImplementedError

    @property
    def session(self) -> dict[str, object]:
        """The session object in wire shape, as session.created carries it."""

    @property
    def active_response_id(self) -> str | None:
        """The response being generated for the default conversation."""

    def take(self) -> list[Output]:
        raise NotImplementedError

    def attach(self, client: str, now: float) -> None: ...
    def detach(self, client: str) -> None: ...
    def receive(self, client: str, text: str | bytes, now: float) -> None: ...

    def audio_received(self, pcm: Pcm, now: float) -> None: ...
    def speech_started(self, audio_ms: int, now: float) -> None: ...
    def speech_stopped(self, audio_ms: int, now: float) -> None: ...
    def transcript_delta(self, item_id: str, delta: str) -> None: ...
    def transcript_completed(self, item_id: str, transcript: str, audio_s: float) -> None: ...
    def transcript_failed(self, item_id: str, message: str) -> None: ...
    def digit(self, digit: str, received_at_unix: int, *, as_turn: bool, now: float) -> None: ...
    def create_response(self, now: float, *, instructions: str | None = None) -> str | None:
        """Returns the id, or None while another response is active."""

    def text_delta(self, response_id: str, delta: str) -> None: ...
    def audio_delta(self, response_id: str, pcm: Pcm) -> None: ...
    def tool_call(self, response_id: str, tool_call_id: str, name: str, arguments: str) -> None: ...
    def response_finished(
        self, response_id: str, reason: str | None, usage: Mapping[str, int], now: float
    ) -> None: ...
    def response_failed(self, response_id: str, code: str, message: str, now: float) -> None: ...

    def playback_started(self, key: str) -> None: ...
    def playback_finished(self, key: str, now: float) -> None: ...
    def playback_cut(self, key: str, played_ms: int, now: float) -> None: ...
    def playout_cleared(self, now: float) -> None:
        """All cuts of the last ClearPlayout were reported; what had no cut was fully heard."""

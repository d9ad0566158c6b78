"""What of a conversation outlives the connection to its model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.backends.base import Emit, ResponseBegun, SpeechStarted, SpeechStopped
from bridge.backends.upstream.caller import CallerAudio
from bridge.backends.upstream.dialects import Dialect
from bridge.backends.upstream.exchange import Exchange
from bridge.backends.upstream.rounds import Rounds
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.ids import ItemId, ResponseId


class ChannelOwner(Protocol):
    def channel_ready(self, channel: Any, /) -> None:
        """The model knows the session."""
        ...

    def channel_lost(self, channel: Any, reason: str, /) -> None:
        """Called once at most, never after `close`."""
        ...


def _ignore(_: object) -> None:
    """Where events go before `start` and after `close`."""


def _nothing() -> Sequence[Mapping[str, Any]]:
    return ()


@dataclass(slots=True)
class Talk:
    settings: UpstreamSettings
    dialect: Dialect
    now: Callable[[], float]
    rounds: Rounds
    config: Mapping[str, Any] = field(default_factory=dict)
    emit: Emit = _ignore
    items: Callable[[], Sequence[Mapping[str, Any]]] = _nothing
    """The conversation as heard."""
    caller: CallerAudio = field(default_factory=CallerAudio)
    exchanges: dict[ResponseId, Exchange] = field(default_factory=dict)
    """Responses that are open in our session."""
    refused: set[str] = field(default_factory=set)
    answer_owed: bool = False
    """A turn has ended, and the model has not begun to answer it."""
    speech_from_ms: int | None = None
    heard_ms: int = 0
    """Up to here the caller's audio is in the conversation."""
    audible_until: float = 0.0
    turn_item: ItemId | None = None
    """Of the turn that is just being ended."""
    committing: bool = False
    lengths: dict[ItemId, float] = field(default_factory=dict)
    """Seconds of the turns whose words are not known yet."""
    _offering: bool = False
    _taken: Exchange | None = None

    @property
    def turn_detection(self) -> Mapping[str, Any] | None:
        detection: Mapping[str, Any] | None = (
            self.config.get("audio", {}).get("input", {}).get("turn_detection")
        )
        return detection

    @property
    def answers_turns(self) -> bool:
        """Whether the model is to answer by itself."""
        detection = self.turn_detection or {}
        return self.dialect.answers_turns and bool(detection.get("create_response"))

    @property
    def quiet(self) -> bool:
        """Nobody speaks, and nobody is waited for."""
        return (
            not self.exchanges
            and not self.answer_owed
            and self.speech_from_ms is None
            and self.now() > self.audible_until
        )

    def speech_started(self, position_ms: int) -> None:
        if self.turn_detection is None or self.speech_from_ms is not None:
            return
        self.speech_from_ms = max(position_ms, self.heard_ms)
        self.caller.holding = True
        self.emit(SpeechStarted(position_ms))

    def speech_stopped(self, position_ms: int) -> ItemId | None:
        """Returns our item of the turn, if there was one."""
        if self.speech_from_ms is None:
            return None
        self.speech_from_ms = None
        self.heard_ms = position_ms
        self.caller.holding = False
        self.answer_owed = self.answers_turns
        self.turn_item, self.committing = None, True
        self.emit(SpeechStopped(position_ms))
        self.committing = False
        return self.turn_item

    def offer(self) -> Exchange | None:
        """The model speaks unasked: the response of ours that it belongs to, if it may."""
        self._offering = True
        self.emit(ResponseBegun())
        self._offering = False
        taken, self._taken = self._taken, None
        return taken

    def take(self, exchange: Exchange) -> bool:
        """Whether `exchange` is what `offer` waits for."""
        if self._offering and self._taken is None:
            self._taken = exchange
        return self._taken is exchange

    def heard(self, seconds: float) -> None:
        """So much more sound is on its way to the caller."""
        self.audible_until = max(self.audible_until, self.now()) + seconds

"""The state of one call, as a table, and the record that outlives it."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from bridge.errors import ConflictError
from bridge.ids import CallId, SessionId
from bridge.legs.base import MediaSecurity
from bridge.legs.sip_headers import extras

KEPT_TURNS = 50


class CallState(StrEnum):
    RINGING = "ringing"
    ANSWERING = "answering"
    ACTIVE = "active"
    ENDING = "ending"
    ENDED = "ended"


TRANSITIONS: Mapping[CallState, Mapping[str, CallState]] = {
    CallState.RINGING: {
        "accept": CallState.ANSWERING,
        "answered": CallState.ACTIVE,  # a call that we made
        "hangup": CallState.ENDING,
        "ended": CallState.ENDED,
    },
    CallState.ANSWERING: {
        "answered": CallState.ACTIVE,
        "hangup": CallState.ENDING,
        "ended": CallState.ENDED,
    },
    CallState.ACTIVE: {"hangup": CallState.ENDING, "ended": CallState.ENDED},
    CallState.ENDING: {"ended": CallState.ENDED},
    CallState.ENDED: {},
}


def _no_media() -> None:
    return None


@dataclass(slots=True)
class Call:
    """Instants are UNIX seconds: a record is read by people and other systems."""

    call_id: CallId
    kind: Literal["sip", "webrtc"]
    direction: Literal["inbound", "outbound"]
    started_at: float
    headers: tuple[tuple[str, str], ...] = ()
    state: CallState = CallState.RINGING
    session_id: SessionId | None = None
    model: str = ""
    answered_at: float | None = None
    ended_at: float | None = None
    end_reason: str = ""
    accepted_with: Mapping[str, Any] | None = field(default=None, repr=False)
    rejected_with: int | None = None
    sender: str = ""
    to: str = ""
    """Who is called, for a call that we made; headers say it of the others."""
    sip_status: int | None = None
    q850: int | None = None
    secure: MediaSecurity = "none"
    keys_pressed: int = 0
    transfer: Mapping[str, Any] | None = None
    turns: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_TURNS))
    """Milliseconds of each stage before an answer, of the newest turns."""
    barge_ins: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_TURNS))
    """Milliseconds until the wire was silent, of the newest."""
    recording: str = ""
    """The file's name."""
    messages: list[Mapping[str, Any]] = field(default_factory=list)
    """That the caller has left: files of their own."""
    findings: list[Mapping[str, Any]] = field(default_factory=list)
    """What is wrong with its media, in words."""
    media: Callable[[], Mapping[str, Any] | None] = _no_media
    """How it sounds, now."""

    def advance(self, event: str) -> None:
        """Raises ConflictError when the table has no such step."""
        after = TRANSITIONS[self.state].get(event)
        if after is None:
            raise ConflictError(f"The call is {self.state.value}: it cannot take '{event}' now")
        self.state = after

    def keep_media(self) -> None:
        """How it sounded in the end; the leg need not be asked any more."""
        last = self.media()
        self.media = lambda: last

    def header(self, name: str) -> str:
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")

    def summary(self) -> dict[str, Any]:
        """How it went, for a webhook."""
        kept = "direction started_at answered_at ended_at end_reason sip_status q850_cause secure "
        kept += "transfer recording messages media barge_ins findings"
        record = self.record()
        return {name: record[name] for name in kept.split()}

    def record(self) -> dict[str, Any]:
        """The call as JSON for `GET /v1/realtime/calls/{call_id}`."""
        return {
            "id": self.call_id,
            "object": "realtime.call",
            "type": self.kind,
            "direction": self.direction,
            "state": self.state.value,
            "from": self.header("From") or self.sender or None,
            "to": self.header("To") or self.to or None,
            "headers": [{"name": name, "value": value} for name, value in extras(self.headers)],
            "session_id": self.session_id,
            "model": self.model or None,
            "started_at": round(self.started_at, 3),
            "answered_at": None if self.answered_at is None else round(self.answered_at, 3),
            "ended_at": None if self.ended_at is None else round(self.ended_at, 3),
            "end_reason": self.end_reason or None,
            "sip_status": self.sip_status,
            "q850_cause": self.q850,
            "secure": self.secure,
            "keys_pressed": self.keys_pressed,
            "transfer": self.transfer,
            "turns": list(self.turns),
            "barge_ins": list(self.barge_ins),
            "recording": self.recording or None,
            "messages": list(self.messages),
            "media": self.media(),
            "findings": list(self.findings),
        }

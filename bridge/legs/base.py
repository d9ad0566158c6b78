"""A leg: the telephone or browser side of a call, whatever its wire."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from bridge.media.stream import AudioStream

MediaSecurity = Literal["none", "sdes", "dtls"]
"""How the keys of a call's media were agreed; none: it is not encrypted."""


@dataclass(frozen=True, slots=True)
class LegResult:
    """How a call that we made was refused: the SIP status, and the Q.850 cause if one was told."""

    status: int
    reason: str
    q850: int | None = None


class LegListener(Protocol):
    """What a leg tells its owner, on the loop; `leg_ended` may come from within a verb."""

    def leg_answered(self) -> None:
        """The far end took our answer: audio flows both ways."""
        ...

    def leg_ended(self, reason: str) -> None:
        """Called exactly once. `reason`: remote_hangup, local_hangup, cancelled, no_ack,
        media_timeout, rejected, connection_lost, transport, no_media; of a call that we made
        also busy, no_answer, unknown_number and failed."""
        ...

    def leg_progress(self, status: int) -> None:
        """A call that we made rings (180) or is on its way."""
        ...

    def leg_held(self, *, held: bool) -> None:
        """The far end put us on hold, or came back."""
        ...

    def leg_transfer(self, status: int, reason: str, *, final: bool) -> None:
        """How the transfer that `refer` asked for goes, by the transferee's word."""
        ...

    def leg_transfer_wanted(self, target: str, replaces: str, referred_by: str) -> None:
        """The far end asks us to call `target` in its place; see `SipLeg.answer_transfer`."""
        ...

    def leg_finding(self, kind: str, text: str) -> None:
        """Something is wrong with the call's media; `text` says what, and what to do about it."""
        ...

    def leg_digit(self, digit: str) -> None:
        """One key press: 0-9, *, #, A-D."""
        ...

    def leg_message(self, text: str) -> None:
        """One text message on the data channel of a browser."""
        ...


class Leg(Protocol):
    kind: Literal["sip", "webrtc"]
    direction: Literal["inbound", "outbound"]
    listener: LegListener | None

    @property
    def result(self) -> LegResult | None:
        """Once a call that we made has been refused."""
        ...

    @property
    def stream(self) -> AudioStream | None:
        """None until media is negotiated."""
        ...

    @property
    def media_security(self) -> MediaSecurity: ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The INVITE's headers in order, credentials dropped; empty for a browser."""
        ...

    def ring(self) -> None: ...

    async def answer(self) -> None:
        """Raises SdpError or OverloadedError when the call cannot carry audio; the leg is then
        already refused with the status that says so."""
        ...

    def reject(self, status: int) -> None: ...

    async def hangup(self) -> None:
        """Idempotent. Returns when the farewell is on the wire, not when it is acknowledged."""
        ...

    def send_message(self, text: str) -> None:
        """To the data channel, if there is one."""
        ...

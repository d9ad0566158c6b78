"""One phone call as a leg: its verbs go to the user agent, what that reports to its owner."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from bridge.errors import SdpError
from bridge.legs import one_way
from bridge.legs.base import LegListener, LegResult, MediaSecurity
from bridge.legs.sip_headers import shown
from bridge.legs.sip_media import SipMedia
from bridge.legs.sip_path import Opened, SipPath
from bridge.legs.webrtc_path import Lost
from bridge.media.stream import AudioStream
from bridge.sdp.crypto import SrtpPolicy
from bridge.sip.agent import UserAgent
from bridge.sip.events import (
    CallCancelled,
    CallConfirmed,
    CallEnded,
    EarlyAnswer,
    Event,
    InfoReceived,
    OutgoingAnswered,
    OutgoingFailed,
    OutgoingProgress,
    ReferProgress,
    Reoffer,
    TransferRequested,
    UsageId,
)
from bridge.sip.info_dtmf import parse_info
from bridge.sip.reliable import OPTION

log = logging.getLogger(__name__)

RINGING = 180
OK = 200
UNAVAILABLE = 503
DECLINE = 603
RETRY_LATER = (("Retry-After", "5"),)  # without it a 503 is taken for a 500 (RFC 3261 21.5.4)

# What a refusal means to the one who dialled; everything else is "failed".
REFUSALS = {
    404: "unknown_number",
    408: "no_answer",
    480: "no_answer",
    484: "unknown_number",
    486: "busy",
    487: "cancelled",
    600: "busy",
    603: "rejected",
    604: "unknown_number",
}


@dataclass(frozen=True, slots=True)
class LegTerms:
    """What holds for the calls of one trunk, or of none. No `codecs`: the service's."""

    trunk: str = ""
    codecs: tuple[str, ...] = ()
    srtp: SrtpPolicy = "off"
    allow_insecure_keys: bool = False
    trusted: bool = False
    late_offer: bool = False
    """Of calls that we make the callee makes the offer, and the ACK brings our answer."""
    header_in: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class MediaPatience:
    """How long nothing may come: since the answer, since the last packet, and while we are held."""

    first_s: float = 30.0
    gap_s: float = 15.0
    held_s: float = 3600.0


class Phones(Protocol):
    """What a leg needs of the one who listens for phones."""

    agent: UserAgent

    def now(self) -> float: ...

    def kick(self) -> None:
        """Put what the user agent wants said on the wire."""
        ...

    def carry(self, media: SipMedia) -> None:
        """Audio flows from now on."""
        ...

    def open_path(self, leg: "SipLeg", then: Callable[[Opened], None]) -> None:
        """A new one, for a call that has one; `then` gets None if the call ends before."""
        ...

    def forget(self, leg: "SipLeg") -> None: ...


class SipLeg:
    """Media is negotiated when an offer arrives, so that answering cannot fail."""

    kind: Literal["sip", "webrtc"] = "sip"

    def __init__(
        self,
        phones: Phones,
        media: SipMedia,
        *,
        direction: Literal["inbound", "outbound"],
        terms: LegTerms,
        headers: Sequence[tuple[str, str]] = (),
        offer: bytes = b"",
    ) -> None:
        """`offer` is the caller's, or empty when it is not there yet. Raises SdpError."""
        self.direction = direction
        self.listener: LegListener | None = None
        self.result: LegResult | None = None
        self.usage = UsageId(0)
        self.terms = terms
        self.media = media
        self._phones = phones
        self._headers = tuple(headers)
        self.peer = next((v for name, v in headers if name.lower() in ("contact", "m")), "")
        """The Contact of the far end, once it is known."""
        self.replaces: SipLeg | None = None
        """The leg whose place it is to take."""
        self._late = direction == "outbound" and terms.late_offer
        self._offered = not (offer or self._late)
        self.description = b""
        if not self._late:
            self.description = media.answer(offer) if offer else media.offer()
        media.on_digit = self._digit
        media.on_ready, media.on_lost = self._carry, self._lost
        self._confirmed_at: float | None = None
        self._carried = False
        self._media_due_since = 0.0
        self._findings: set[str] = set()
        self._ended = False

    @property
    def stream(self) -> AudioStream | None:
        return self.media.stream

    @property
    def media_security(self) -> MediaSecurity:
        return self.media.security

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        return shown(self._headers, self.terms.header_in, trusted=self.terms.trusted)

    # Verbs

    def ring(self) -> None:
        # Who wants to acknowledge that it rings, and has made no offer, gets ours with it: the
        # first reliable response must bring it (RFC 3262 section 5).
        body = self.description if self._offered and self._acknowledges else b""
        self._phones.agent.provisional(self.usage, RINGING, self._phones.now(), body=body)
        self._phones.kick()

    @property
    def _acknowledges(self) -> bool:
        required = [value for name, value in self._headers if name.lower() == "require"]
        return OPTION in ",".join(required).lower().replace(" ", "").split(",")

    async def answer(self) -> None:
        if self.direction == "inbound":
            self._phones.agent.answer(self.usage, self.description, self._phones.now())
            self._phones.kick()
            self.media.connect()

    def reject(self, status: int) -> None:
        headers = RETRY_LATER if status == UNAVAILABLE else ()
        self._phones.agent.reject(self.usage, status, self._phones.now(), headers=headers)
        self.finish("rejected")
        self._phones.kick()

    async def hangup(self) -> None:
        if not self._ended:
            self._phones.agent.hangup(self.usage, self._phones.now())
            self.finish("local_hangup")
            self._phones.kick()

    def refer(self, target: str, *, to: "SipLeg | None" = None) -> None:
        """With `to` the peer takes our place in that call (RFC 3891).

        Raises SipError when the target cannot stand in a header.
        """
        replaced = None if to is None else to.usage
        self._phones.agent.refer(self.usage, target, self._phones.now(), replaces=replaced)
        self._phones.kick()

    def answer_transfer(self, status: int) -> None:
        """To what the listener was told was wanted: 202, and then the news; or 300 to 699."""
        self._phones.agent.refer_answer(self.usage, status, self._phones.now())
        self._phones.kick()

    def tell_transfer(self, status: int, reason: str, *, final: bool) -> None:
        """The one who asked for it learns how it goes, hung up or not."""
        now = self._phones.now()
        self._phones.agent.notify_refer(self.usage, status, reason, now, final=final)
        self._phones.kick()

    def send_message(self, text: str) -> None:
        """A phone has no data channel."""

    # What the user agent reports

    def happened(self, event: Event) -> None:
        match event:
            case CallConfirmed(_, body):
                self._confirmed(body)
            case EarlyAnswer(_, body):
                self._answered_early(body)
            case CallCancelled():
                self.finish("cancelled")
            case CallEnded(_, cause):
                self.finish("remote_hangup" if cause == "bye" else cause)
            case Reoffer(_, body):
                self._reoffered(body)
            case InfoReceived(_, content_type, body):
                self._informed(content_type, body)
            case OutgoingProgress(_, status):
                if self.listener is not None:
                    self.listener.leg_progress(status)
            case OutgoingAnswered(_, body, headers):
                self.peer = headers.get("Contact") or ""
                self._answered(body)
            case OutgoingFailed(_, status, reason, _, q850):
                self.result = LegResult(status, reason, q850)
                self.finish(REFUSALS.get(status, "failed"))
            case ReferProgress() | TransferRequested():
                self._transferred(event)
            case _:
                pass

    def _transferred(self, event: ReferProgress | TransferRequested) -> None:
        match self.listener, event:
            case None, TransferRequested():
                self.answer_transfer(DECLINE)
            case None, _:
                pass
            case listener, ReferProgress(_, status, reason, final):
                listener.leg_transfer(status, reason, final=final)
            case listener, TransferRequested(_, target, replaces, referred_by):
                listener.leg_transfer_wanted(target, replaces or "", referred_by or "")

    def _confirmed(self, body: bytes) -> None:
        """The ACK came: for the call, or for a re-INVITE."""
        if self._offered and body:
            self._offered = False
            try:
                self.media.accept(body)
            except SdpError as error:
                log.warning("answer in ACK not usable", extra={"why": error.message})
        self._media_due_since = self._phones.now()
        if self.stream is None:
            self._give_up("no_media")
        elif self._confirmed_at is None:
            self._up()

    def _answered_early(self, body: bytes) -> None:
        """The PRACK brought the answer to our offer; nobody has taken the call yet."""
        self._offered = False
        try:
            self.media.accept(body)
        except SdpError as error:
            log.warning("answer in PRACK not usable", extra={"why": error.message})
            self._phones.agent.reject(self.usage, error.sip_status, self._phones.now())
            self.finish("no_media")
            self._phones.kick()

    def _answered(self, body: bytes) -> None:
        """The callee took our call. A description we cannot use ends it again."""
        try:
            if self._late:
                self.description = self.media.answer(body)
                now = self._phones.now()
                self._phones.agent.acknowledge_offer(self.usage, self.description, now)
            else:
                self.media.accept(body)
        except SdpError as error:
            log.warning("answer not usable", extra={"why": error.message})
            self._give_up("no_media")
            return
        self._up()

    def _up(self) -> None:
        self._confirmed_at = self._media_due_since = self._phones.now()
        self.media.connect()
        self._carry()

    def _carry(self) -> None:
        """What is said before there is a way for it would be lost."""
        if self._ended or self._carried or self._confirmed_at is None or not self.media.ready:
            return
        self._carried = True
        self._media_due_since = self._phones.now()
        self._phones.carry(self.media)
        if self.listener is not None:
            self.listener.leg_answered()

    def _lost(self, why: Lost) -> None:
        self._give_up(why if self._carried else "no_media")

    def _give_up(self, reason: str) -> None:
        self._phones.agent.hangup(self.usage, self._phones.now())
        self.finish(reason)
        self._phones.kick()

    def _reoffered(self, offer: bytes) -> None:
        """A re-INVITE or UPDATE: hold, resume, a new address or codec, or a session refresh."""
        if offer and self.media.begins_again(offer):
            self._phones.open_path(self, partial(self._moved, offer))
        else:
            self._answer_reoffer(offer, None)

    def _moved(self, offer: bytes, opened: Opened) -> None:
        if isinstance(opened, SipPath):
            self._answer_reoffer(offer, opened)
        elif opened is not None:
            now = self._phones.now()
            self._phones.agent.reinvite_answer(self.usage, opened.sip_status, b"", now)
        self._phones.kick()

    def _answer_reoffer(self, offer: bytes, path: SipPath | None) -> None:
        status, body = OK, b""
        was_held = self.stream is not None and self.stream.held
        try:
            body = self.media.answer(offer, path) if offer else self.media.offer()
            self._offered = not offer
        except SdpError as error:
            log.info("re-offer refused", extra={"why": error.message})
            status = error.sip_status
            if path is not None:
                path.close()
        # A caller who was on hold for long has only now been asked to speak.
        self._media_due_since = self._phones.now()
        self._phones.agent.reinvite_answer(self.usage, status, body, self._phones.now())
        if self._confirmed_at is not None:
            self.media.connect()
        held = self.stream is not None and self.stream.held
        if held != was_held and self.listener is not None:
            self.listener.leg_held(held=held)

    def _informed(self, content_type: str, body: bytes) -> None:
        found = parse_info(content_type, body)
        if found is not None and self.stream is not None:
            lasted_s = found.duration_ms / 1000
            self.stream.press("info", found.digit, self._phones.now(), lasted_s=lasted_s)

    def _digit(self, digit: str) -> None:
        if self.listener is not None:
            self.listener.leg_digit(digit)

    def finish(self, reason: str) -> None:
        """Media stops and the owner is told, once."""
        if self._ended:
            return
        self._ended = True
        self._phones.forget(self)
        if self.listener is not None:
            self.listener.leg_ended(reason)
            self.listener = None

    def check_media(self, now: float, patience: MediaPatience) -> None:
        """BYE when no packet has come for too long. RTCP is a sign of life, as is a re-INVITE."""
        stream = self.stream
        if stream is None or self._confirmed_at is None:
            return
        last, control = stream.last_received_at, stream.last_control_at
        quiet_s = now - max(self._media_due_since, last or 0.0, control or 0.0)
        limit_s = patience.first_s if last is None or stream.pauses else patience.gap_s
        if quiet_s > (patience.held_s if stream.held else limit_s):
            self._give_up("media_timeout")
        elif not stream.held:
            self._look_for_one_way(stream, now)

    def _look_for_one_way(self, stream: AudioStream, now: float) -> None:
        waited_s = now - self._media_due_since
        if waited_s < one_way.AFTER_S or not stream.packets_sent:
            return
        if stream.last_received_at is None:
            self._find("in", self.media.why_unheard(waited_s))
        elif stream.feedback.fraction_lost >= one_way.DEAF:
            self._find("out", one_way.not_heard(self.media.source))

    def _find(self, direction: str, text: str) -> None:
        """Told once."""
        if direction not in self._findings:
            self._findings.add(direction)
            if self.listener is not None:
                self.listener.leg_finding(one_way.ONE_WAY, text)

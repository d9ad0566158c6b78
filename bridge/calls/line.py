"""What the switchboard holds for each live conversation: a call's two halves, or a lone session."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from bridge import metrics
from bridge.backends.base import MessageTerms
from bridge.calls.call import Call, CallState
from bridge.calls.keypad import Keypad, KeypadSettings
from bridge.calls.lifecycle import Lifecycle
from bridge.calls.messages import Message, MessageTaker
from bridge.calls.transfers import Consultation
from bridge.errors import BridgeError
from bridge.legs.base import Leg
from bridge.media.collector import Collected
from bridge.media.recorder import Recorder, Recording
from bridge.media.report import MediaReport
from bridge.media.stream import AudioStream
from bridge.sessions.clients import ChannelClient
from bridge.sessions.listener import SessionListener
from bridge.sessions.session import Session

log = logging.getLogger(__name__)

RINGING = 180
OK = 200


class Transferring(Protocol):
    """The switchboard's `Handover`."""

    def transfer_target(self, line: "Line", target_uri: str) -> str: ...

    def transfer(self, line: "Line", target: str) -> None: ...

    def release(self, leg: Leg) -> None:
        """Hang up on somebody who has no part in a call any more."""
        ...

    def transfer_wanted(
        self, line: "Line", target: str, replaces: str, referred_by: str
    ) -> None: ...


class Board(Protocol):
    """The switchboard, as a line sees it."""

    lifecycle: Lifecycle

    recorder: Recorder | None
    message_recorder: Recorder | None

    def unix_time(self) -> float: ...

    def answered(self, line: "Line") -> None: ...

    def ended(self, line: "Line", reason: str) -> None: ...

    def end(self, line: "Line") -> None: ...

    @property
    def handover(self) -> "Transferring": ...

    def forget(self, conversation: Session) -> None: ...


class Line(SessionListener):
    """One live call: its leg, its session and what each says about the other."""

    def __init__(self, board: Board, call: Call, leg: Leg) -> None:
        self.call = call
        self.leg = leg
        self.session: Session | None = None
        self.channel: ChannelClient | None = None
        self.greets = False
        self.keypad: Keypad | None = None
        self.joined = False
        self.transferring_to = ""
        self.moving_to = ""
        self.consultation: Consultation | None = None
        self.left_alone = False
        self.place: Line | None = None
        """The call that our far end is to go on with, in our place."""
        self.given_away = False
        """Somebody is to take our place in this call."""
        self._rang = False
        self._model_transfers = False
        call.media = self._media
        self._recording: Recording | None = None
        self._message: MessageTaker | None = None
        self._board = board
        self._timer: asyncio.TimerHandle | None = None

    def set_timer(self, delay_s: float | None, *call: Any) -> None:
        """One timer at a time: ringing, then the maximum duration."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay_s, *call)

    @property
    def media_security(self) -> str | None:
        """OpenAI's word for it; None while nothing is negotiated."""
        if self.leg.stream is None:
            return None
        return "rtp" if self.leg.media_security == "none" else "srtp"

    def _media(self) -> Mapping[str, Any] | None:
        """How it sounds; None before anything was negotiated."""
        stream = self.leg.stream
        return None if stream is None else MediaReport.of(stream).as_dict()

    def tell(self, kind: str, **fields: Any) -> None:
        """To clients that asked for more than the official events."""
        if self.session is not None:
            self.session.transport_event(kind, **fields)

    # The leg

    def leg_answered(self) -> None:
        outbound = self.call.direction == "outbound"
        expected = CallState.RINGING if outbound else CallState.ANSWERING
        if self.call.state is expected:
            self.call.advance("answered")
            self.call.answered_at = self._board.unix_time()
            self._board.answered(self)
            if outbound:
                self.tell("transport.answered")
                self._board.lifecycle.tell(self.call, "answered")
        if self.call.state is CallState.ACTIVE:
            self.join()

    def join(self) -> None:
        """As soon as both sides are there; the first words may wait for the ACK in the playout.

        A callee hears nothing before the call is answered, and the model is not asked before.
        """
        if self.session is None or self.leg.stream is None or self.joined:
            return
        if self.call.direction == "outbound" and self.call.state is not CallState.ACTIVE:
            return
        self.joined = True
        self.call.secure = self.leg.media_security
        self.session.connect(self.leg.stream)
        self._record(self.leg.stream)
        if self.greets:
            self.session.greet()

    def _record(self, stream: AudioStream) -> None:
        recorder = self._board.recorder
        if recorder is None or self._keeps_nothing:
            return
        if self._recording is None:
            self._recording = recorder.record(self.call.call_id)
            self.call.recording = self._recording.path.name
        stream.tap = self._recording.tap

    @property
    def _keeps_nothing(self) -> bool:
        """What is pressed into a vault may also be heard."""
        return self.keypad is not None and self.keypad.vault

    def leg_ended(self, reason: str) -> None:
        if self.keypad is not None and (digits := self.keypad.close()):
            told = {"digits": digits, "ended_by": "hangup"}
            self._board.lifecycle.tell(self.call, "dtmf", always=self.keypad.vault, **told)
        result = self.leg.result
        if result is not None:
            self.call.sip_status, self.call.q850 = result.status, result.q850
            self.tell(
                "transport.failed", status=result.status, reason=result.reason, q850=result.q850
            )
        if self.consultation is not None:
            # Phones hang up once we have agreed to call somebody in their place.
            self.left_alone = True
            return
        if self.given_away and reason == "remote_hangup":
            reason = "transferred"
        self._measure()
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self._message is not None:
            self._message.hang_up()
        if self._recording is not None:
            self._recording.close()
        self._board.ended(self, reason)

    def _measure(self) -> None:
        """How the call sounded, into the metrics."""
        stream = self.leg.stream
        if stream is None:
            return
        report = MediaReport.of(stream)
        for direction, mos in (("received", report.mos_received), ("sent", report.mos_sent)):
            if mos is not None:
                metrics.call_mos.labels(direction).observe(mos)
        if report.stats.round_trip_ms is not None:
            metrics.call_round_trip_s.observe(report.stats.round_trip_ms / 1000)

    def leg_progress(self, status: int) -> None:
        if status == RINGING:
            self.tell("transport.ringing")
            # A phone may say so every minute.
            if not self._rang:
                self._board.lifecycle.tell(self.call, "ringing")
            self._rang = True

    def leg_held(self, *, held: bool) -> None:
        self.tell("transport.held" if held else "transport.resumed")

    def leg_finding(self, kind: str, text: str) -> None:
        self.call.findings.append({"type": kind, "at": self._board.unix_time(), "text": text})
        self.tell(f"transport.{kind}", text=text)
        metrics.findings.labels(kind).inc()
        log.warning("finding", extra={"call_id": self.call.call_id, "type": kind, "why": text})

    def leg_transfer(self, status: int, reason: str, *, final: bool) -> None:
        """The caller stays with the agent until the target has answered."""
        named = {} if self.place is None else {"replaces": self.place.call.call_id}
        self.call.transfer = {
            "target": self.transferring_to,
            "status": status,
            "reason": reason,
            **named,
        }
        self.tell("transport.transfer", status=status, reason=reason, final=final)
        if not final:
            return
        self._board.lifecycle.tell(self.call, "transfer", **self.call.transfer)
        log.info("transfer", extra={"call_id": self.call.call_id, "status": status})
        self.transferring_to = ""
        self._leave_place(status)
        asked, self._model_transfers = self._model_transfers, False
        if 200 <= status < 300:
            self.call.end_reason = "transferred"
            self._board.end(self)
        elif asked and self.session is not None:
            self.session.inform(f"[transfer failed: {status} {reason}]")

    def _leave_place(self, status: int) -> None:
        place, self.place = self.place, None
        if place is None:
            return
        place.given_away = status < 300
        # Phones hang up by themselves when somebody takes our place. A transfer that was only
        # accepted (202) may still be under way: to hang up now would spoil it.
        if status == OK and place.call.state is not CallState.ENDED:
            place.call.end_reason = "transferred"
            self._board.end(place)

    def leg_transfer_wanted(self, target: str, replaces: str, referred_by: str) -> None:
        self._board.handover.transfer_wanted(self, target, replaces, referred_by)

    def move(self, leg: Leg) -> Leg:
        """The conversation goes on with another far end; returns the leg of the last."""
        old, self.leg = self.leg, leg
        old.listener, leg.listener = None, self
        self.joined = self.greets = self.left_alone = False
        if old.stream is not None:
            old.stream.on_frame = old.stream.tap = None
        self.join()
        return old

    def transferred(self, leg: Leg) -> None:
        """The far end asked for it, and whom it named has answered."""
        self.consultation = None
        self._board.handover.release(self.move(leg))

    def transfer_news(self, status: int, reason: str, *, final: bool) -> None:
        """Of a transfer that the far end asked for."""
        self.call.transfer = {"target": self.moving_to, "status": status, "reason": reason}
        self.tell("transport.transfer", status=status, reason=reason, final=final)
        if final:
            self._board.lifecycle.tell(self.call, "transfer", **self.call.transfer)

    def transfer_failed(self) -> None:
        self.consultation = None
        if self.left_alone:
            self._end("transfer_failed")

    def leg_digit(self, digit: str) -> None:
        self.call.keys_pressed += 1
        if self._message is not None:
            self._message.press(digit)
            return
        if self.keypad is None:
            if self.session is not None:
                self.session.digit(digit)
            return
        if self.session is not None and not self.keypad.vault:
            self.session.digit(digit, collects=True)
        self.keypad.press(digit)

    def collect(self, settings: KeypadSettings | None) -> None:
        if settings is not None:
            self.keypad = Keypad(settings, self._collected)

    def _collected(self, collected: Collected) -> None:
        vault = self.keypad is not None and self.keypad.vault
        count = len(collected.digits)
        self._board.lifecycle.tell(
            self.call,
            "dtmf",
            always=vault,
            digits=collected.digits,
            ended_by=collected.ended_by,
        )
        self.tell("transport.dtmf.collected", count=count, ended_by=collected.ended_by)
        if self.session is not None:
            self.session.digits_collected(f"{count} keys" if vault else collected.digits)

    def leg_message(self, text: str) -> None:
        if self.session is not None and self.channel is not None:
            self.session.receive(self.channel, text)

    # The session

    def session_hangup(self) -> None:
        self._board.end(self)

    def transfer_target(self, target: str) -> str:
        return self._board.handover.transfer_target(self, target)

    def session_transfer(self, target: str, *, returns: bool) -> None:
        if self.call.state is not CallState.ACTIVE:
            return
        try:
            # The target of an operator's fallback has not been looked at yet.
            found = self._board.handover.transfer_target(self, target)
        except BridgeError as error:
            log.warning("no transfer", extra={"call_id": self.call.call_id, "why": error.message})
            if returns and self.session is not None:
                self.session.inform(f"[transfer failed: {error.sip_status} {error.message}]")
            else:
                self._board.end(self)
            return
        self._model_transfers = True
        self._board.handover.transfer(self, found)

    def session_message(self, terms: MessageTerms) -> MessageTaker | None:
        recorder = self._board.message_recorder
        active = self.call.state is CallState.ACTIVE
        if recorder is None or not active or self._keeps_nothing:
            return None
        number = len(self.call.messages) + 1
        track = recorder.track(f"{self.call.call_id}_message_{number}")
        now = self._board.unix_time()
        self._message = MessageTaker(terms, track, self._message_over, began_at=now)
        return self._message

    def _message_over(self, message: Message) -> None:
        self._message = None
        if message.kept:
            self.call.messages.append(message.as_dict())
            self._board.lifecycle.tell(self.call, "message", **message.as_dict())
        if message.ended_by != "hangup" and self.session is not None:
            self.session.message_over("[message taken]" if message.kept else "[message too short]")

    def session_turn(self, record: Mapping[str, Any]) -> None:
        self.call.turns.append(record)
        log.info("turn", extra={"call_id": self.call.call_id, **record})

    def session_barge_in(self, record: Mapping[str, Any]) -> None:
        self.call.barge_ins.append(record)

    def session_expired(self) -> None:
        self.call.end_reason = "expired"
        self._board.end(self)


class PlainSession(SessionListener):
    """A session of one WebSocket, without a call."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._session: Session | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, session: Session, max_duration_s: int) -> None:
        self._session = session
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max_duration_s, session.expire, max_duration_s)

    def session_expired(self) -> None:
        self.session_abandoned()

    def session_hangup(self) -> None:
        self.session_abandoned()

    def session_abandoned(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._session is not None:
            self._board.forget(self._session)

"""The only place where a leg meets a session."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bridge import logs, metrics
from bridge.backends.base import Backend
from bridge.backends.tools import Opener, no_servers
from bridge.calls.call import Call, CallState
from bridge.calls.ended import EndedCalls
from bridge.calls.handover import Dialler, Handover
from bridge.calls.keypad import check_keypad, read_accept
from bridge.calls.lifecycle import Lifecycle
from bridge.calls.line import Line, PlainSession
from bridge.calls.policy import CallPolicy, read_dial
from bridge.calls.refusals import turn_away
from bridge.calls.webhooks import WebhookSender, incoming_call_event
from bridge.errors import BridgeError, CallNotFound, ConflictError, OverloadedError
from bridge.ids import CallId, SessionId, new_call_id, new_id
from bridge.legs.base import Leg
from bridge.legs.sip_leg import SipLeg
from bridge.media.apm import NOTHING, Wanted
from bridge.media.recorder import Recorder
from bridge.realtime.session_config import SessionConfig
from bridge.sessions.listener import SessionListener
from bridge.sessions.session import Session
from bridge.sessions.terms import Terms
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

SETTLING_S = 5.0
TEMPORARILY_UNAVAILABLE = 480
DECLINE = 603


class OfferTaker(Protocol):
    """Where browsers' offers become legs: `legs.webrtc.WebRtcLegs`."""

    async def offer(self, sdp: str) -> tuple[Leg, str]: ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """The session of calls that nobody configured, and what new sessions start from."""

    config: SessionConfig
    greeting: str = ""
    strict_voice: bool = False
    tool_servers: Opener = no_servers
    cleaning: Wanted = NOTHING


@dataclass(frozen=True, slots=True)
class Limits:
    max_calls: int = 1000
    is_full: Callable[[], bool] = lambda: False
    """The calls that are up leave no time for others."""
    ring_timeout_s: float = 60.0
    max_duration_s: int = 3600
    webhook_events: tuple[str, ...] = ()
    """What webhooks tell besides the call that is coming."""


class Switchboard:
    def __init__(
        self,
        *,
        node_tag: str,
        browsers: OfferTaker,
        new_backend: Callable[[], Backend],
        defaults: Defaults,
        webhooks: WebhookSender | None,
        policy: CallPolicy,
        unix_time: Callable[[], float],
        limits: Limits = Limits(),
    ) -> None:
        self._node_tag = node_tag
        self._browsers = browsers
        self._new_backend = new_backend
        self._defaults = defaults
        self._webhooks = webhooks
        self._policy = policy
        self._phones: Dialler | None = None
        self.recorder: Recorder | None = None
        """Of all calls, if there is one."""
        self.message_recorder: Recorder | None = None
        """Of what callers leave, likewise."""
        self.unix_time = unix_time
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._lines: dict[CallId, Line] = {}
        self._ended = EndedCalls()
        self._plain: dict[SessionId, PlainSession] = {}
        self._tasks = TaskOwner("switchboard")
        self.lifecycle = Lifecycle(
            webhooks, limits.webhook_events, tasks=self._tasks, unix_time=unix_time
        )
        self.handover = Handover(policy, self._tasks)
        self._draining = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    def use_phones(self, phones: Dialler) -> None:
        """Phones are told of the switchboard when they are made, and it of them afterwards."""
        self._phones = self.handover.phones = phones

    # Calls that reach us

    def incoming(self, leg: Leg) -> None:
        """A phone rings: ask the webhook, or answer with the default session without one."""
        if isinstance(leg, SipLeg) and leg.replaces is not None:
            self._tasks.spawn(self.handover.take_over(leg, leg.replaces), name="replace")
            return
        if self._is_closed:
            full = "" if self._draining else self._filled
            why = "there is no room for a call" if full else "the service is stopping"
            turn_away(leg, OverloadedError.sip_status, why, change=full)
            return
        line = self._open_line(leg)
        leg.ring()
        line.set_timer(
            self._limits.ring_timeout_s, self._refuse, line, TEMPORARILY_UNAVAILABLE, "no_answer"
        )
        if self._webhooks is None:
            self._tasks.spawn(self._accept_by_default(line), name="accept")
        else:
            self._tasks.spawn(self._announce(line, self._webhooks), name="webhook")

    @property
    def _is_closed(self) -> bool:
        """To new calls."""
        return self._draining or bool(self._filled)

    @property
    def _filled(self) -> str:
        """The setting that leaves no room for another call, if one does."""
        if len(self._lines) >= self._limits.max_calls:
            return "limits.max_calls"
        return "limits.max_load" if self._limits.is_full() else ""

    def _open_line(self, leg: Leg) -> Line:
        call = Call(
            call_id=new_call_id(self._node_tag),
            kind=leg.kind,
            direction=leg.direction,
            started_at=self.unix_time(),
            headers=tuple(leg.headers),
        )
        line = Line(self, call, leg)
        leg.listener = line
        self._lines[call.call_id] = line
        self._quiet.clear()
        metrics.calls_started.labels(leg.kind).inc()
        metrics.calls_live.inc()
        log.info("call", extra={"call_id": call.call_id, "kind": leg.kind, "state": "ringing"})
        return line

    async def _accept_by_default(self, line: Line) -> None:
        logs.call_id.set(line.call.call_id)
        try:
            await self._answer(line, None)
        except BridgeError as error:
            log.info("call not answered", extra={"why": error.message})

    async def _announce(self, line: Line, webhooks: WebhookSender) -> None:
        call = line.call
        logs.call_id.set(call.call_id)
        event = incoming_call_event(
            call.call_id,
            call.headers,
            created_at=int(call.started_at),
            media_security=line.media_security,
        )
        if not await webhooks.deliver(event, while_=lambda: call.state is CallState.RINGING):
            log.warning("webhook not delivered", extra={"state": call.state.value})

    def _refuse(self, line: Line, status: int, reason: str) -> None:
        # Until a session runs nobody is there to talk to, accepted or not.
        if line.call.state in (CallState.RINGING, CallState.ANSWERING):
            line.call.end_reason = reason
            why = f"not accepted in {self._limits.ring_timeout_s:g} s"
            change = "limits.ring_timeout_s, or who gets the webhook"
            turn_away(line.leg, status, why, change=change, call_id=line.call.call_id)

    async def offer(self, sdp: str, session: Mapping[str, Any] | None) -> tuple[CallId, str]:
        """A browser's call: its answer, with the call already reachable by its id.

        Raises:
            SdpError: the offer cannot be used.
            RequestError: the session cannot.
            OverloadedError, BackendError: not now.
        """
        if self._is_closed:
            raise OverloadedError("No room for another call")
        if session is not None:
            SessionConfig.create(session, defaults=self._defaults.config)
        leg, answer = await self._browsers.offer(sdp)
        if self._is_closed:
            leg.reject(OverloadedError.sip_status)
            raise OverloadedError("No room for another call")
        line = self._open_line(leg)
        await self._answer(line, session)
        return line.call.call_id, answer

    # Call control

    async def accept(self, call_id: CallId, session: Mapping[str, Any]) -> None:
        """Repeating it with the same session is harmless: official SDKs retry.

        Raises:
            CallNotFound: no such call, or the caller has gone.
            RequestError: the session is wrong; the call still rings.
            ConflictError: already accepted with another session.
        """
        line = self._line(call_id)
        if line.call.direction == "outbound":
            raise ConflictError("This call is ours; whoever is called accepts it")
        if line.call.state is not CallState.RINGING:
            if line.call.accepted_with == session:
                return
            raise ConflictError("The call has already been accepted with another session")
        await self._answer(line, session)

    async def _answer(self, line: Line, asked: Mapping[str, Any] | None) -> None:
        session, keypad = read_accept(asked, told=self.lifecycle.reaches_somebody)
        config = SessionConfig.create(session, defaults=self._defaults.config)
        line.collect(keypad)
        line.call.advance("accept")
        line.call.accepted_with = asked
        await self._converse(line, config, greets=session is None)
        line.set_timer(self._limits.max_duration_s, self._expire, line)
        await line.leg.answer()
        line.join()

    async def _converse(self, line: Line, config: SessionConfig, *, greets: bool) -> None:
        """Give the call its session. Raises BackendError, and CallNotFound if it ended."""
        call, leg = line.call, line.leg
        backend = self._new_backend()
        line.greets = greets and (backend.capabilities.greets or bool(self._defaults.greeting))
        conversation = self._new_session(backend, config, on_call=True, listener=line)
        try:
            await conversation.start()
        except BridgeError as error:
            if call.state is not CallState.ENDED:
                call.end_reason = "backend_unavailable"
                if call.direction == "outbound":
                    await leg.hangup()
                else:
                    why = f"no model: {error.message}"
                    turn_away(leg, error.sip_status, why, change="session", call_id=call.call_id)
            raise
        if call.state in (CallState.ENDING, CallState.ENDED):
            await conversation.close()
            raise CallNotFound
        line.session = conversation
        call.session_id = conversation.id
        call.model = conversation.config.model
        if leg.kind == "webrtc":
            line.channel = conversation.attach_channel(leg.send_message)

    def _new_session(
        self, backend: Backend, config: SessionConfig, *, on_call: bool, listener: SessionListener
    ) -> Session:
        return Session(
            SessionId(new_id("sess")),
            backend=backend,
            config=config,
            terms=Terms(
                on_call=on_call,
                expires_at=int(self.unix_time()) + self._limits.max_duration_s,
                greeting=self._defaults.greeting,
                strict_voice=self._defaults.strict_voice,
                tool_servers=self._defaults.tool_servers,
                cleaning=self._defaults.cleaning,
            ),
            unix_time=self.unix_time,
            listener=listener,
        )

    async def reject(self, call_id: CallId, status: int = DECLINE) -> None:
        """Raises CallNotFound, or ConflictError once the call is answered."""
        before = self._ended.get(call_id)
        if before is not None and before.rejected_with == status:
            return
        line = self._line(call_id)
        if line.call.state is not CallState.RINGING or line.call.direction == "outbound":
            raise ConflictError("The call is not ringing here; use hangup")
        line.call.rejected_with = status
        turn_away(line.leg, status, "rejected by the API", call_id=call_id, asked=True)

    async def hangup(self, call_id: CallId) -> None:
        """Raises CallNotFound. A second hangup of the same call is harmless."""
        before = self._ended.get(call_id)
        if before is not None and before.reason == "local_hangup":
            return
        self.end(self._line(call_id))

    async def refer(
        self, call_id: CallId, target_uri: str, *, after: str = "", replaces: str = ""
    ) -> None:
        """Ask the caller's phone to call `target_uri`; with `after` "playout", once the agent has
        said what it has to say. The same target again is harmless.

        `replaces` is another call of ours in which the caller takes our place; whom it is with is
        called when there is no `target_uri`.

        Raises:
            CallNotFound: no such call.
            RequestError: a target that may not be called, or a call that is no phone's.
            ConflictError: not answered yet, or being transferred elsewhere.
        """
        line = self._line(call_id)
        place = self._line(CallId(replaces)) if replaces else None
        target = self.handover.transfer_target(line, target_uri, place)
        if line.transferring_to == target:
            return
        line.transferring_to, line.place = target, place
        if after == "playout" and line.session is not None:
            await line.session.said()
        self.handover.transfer(line, target, place)

    async def dial(self, transport: Mapping[str, Any], session: Mapping[str, Any] | None) -> CallId:
        """Call a phone. Its answer, or why there was none, is in the record and in events.

        Raises RequestError, OverloadedError or BackendError.
        """
        if self._is_closed or self._phones is None:
            raise OverloadedError("No room for another call")
        config = SessionConfig.create(session, defaults=self._defaults.config)
        dial = read_dial(transport)
        keypad = check_keypad(transport, told=self.lifecycle.reaches_somebody)
        order = self._policy.order(dial)
        try:
            leg = await self._phones.dial(order)
        except BridgeError:
            self._policy.released(order.terms)
            raise
        line = self._open_line(leg)
        line.call.to = str(order.target)
        line.call.sender = order.caller
        line.collect(keypad)
        line.call.accepted_with = session
        line.set_timer(dial.ring_timeout_s or self._limits.ring_timeout_s, self._give_up, line)
        await self._converse(line, config, greets=session is None)
        line.join()
        return line.call.call_id

    def _give_up(self, line: Line) -> None:
        """Nobody took our call in time."""
        line.call.end_reason = "no_answer"
        self._tasks.spawn(line.leg.hangup(), name="give up")

    def answered(self, line: Line) -> None:
        if line.call.direction == "outbound":
            line.set_timer(self._limits.max_duration_s, self._expire, line)

    def end(self, line: Line) -> None:
        call = line.call
        if call.state is CallState.RINGING and call.direction == "outbound":
            call.advance("hangup")
            self._tasks.spawn(line.leg.hangup(), name="hangup")
        elif call.state is CallState.RINGING:
            call.rejected_with = DECLINE
            call.end_reason = "local_hangup"
            why = "hung up before it was answered"
            turn_away(line.leg, DECLINE, why, call_id=call.call_id, asked=True)
        elif call.state in (CallState.ANSWERING, CallState.ACTIVE):
            call.advance("hangup")
            if line.session is not None:
                # While a browser's data channel still carries the end of the story.
                line.session.finish(call.end_reason or "local_hangup")
            self._tasks.spawn(line.leg.hangup(), name="hangup")

    def _expire(self, line: Line) -> None:
        if line.session is not None:
            line.session.expire(self._limits.max_duration_s)

    def ended(self, line: Line, reason: str) -> None:
        """The leg is gone: the record is closed and the session told, once."""
        call = line.call
        if call.state is CallState.ENDED:
            return
        line.set_timer(None)
        call.advance("ended")
        call.ended_at = self.unix_time()
        call.end_reason = call.end_reason or reason
        del self._lines[call.call_id]
        if not self._lines:
            self._quiet.set()
        call.keep_media()
        self._ended.add(call)
        if call.direction == "outbound" and call.answered_at is None:
            self.lifecycle.tell(
                call,
                "failed",
                status=call.sip_status,
                q850=call.q850,
                reason=call.end_reason,
            )
        self.lifecycle.tell(call, "ended", **call.summary())
        metrics.calls_live.dec()
        metrics.calls_ended.labels(call.kind, call.end_reason).inc()
        log.info(
            "call",
            extra={"call_id": call.call_id, "state": "ended", "reason": call.end_reason},
        )
        if line.session is not None:
            self._tasks.spawn(line.session.close(call.end_reason), name="close session")

    # Looking things up

    def _line(self, call_id: CallId) -> Line:
        line = self._lines.get(call_id)
        if line is None:
            raise CallNotFound
        return line

    def live(self) -> list[dict[str, Any]]:
        return [line.call.record() for line in self._lines.values()]

    def record(self, call_id: CallId) -> dict[str, Any]:
        """Raises CallNotFound."""
        line = self._lines.get(call_id)
        return self._ended.record(call_id) if line is None else line.call.record()

    def session(self, call_id: CallId) -> Session:
        """Raises CallNotFound: unknown, ended, or not accepted yet."""
        found = self._line(call_id).session
        if found is None:
            raise CallNotFound
        return found

    async def open_session(self, model: str, session: Mapping[str, Any] | None) -> Session:
        """A conversation without a leg, for one WebSocket; it ends when that leaves.

        Raises BackendError, OverloadedError or RequestError.
        """
        if self._draining or len(self._plain) >= self._limits.max_calls:
            raise OverloadedError("No room for another session")
        wanted = {"type": "realtime", **(session or {}), **({"model": model} if model else {})}
        config = SessionConfig.create(wanted, defaults=self._defaults.config)
        owner = PlainSession(self)
        conversation = self._new_session(self._new_backend(), config, on_call=False, listener=owner)
        self._plain[conversation.id] = owner
        try:
            await conversation.start()
        except BridgeError:
            del self._plain[conversation.id]
            raise
        owner.begin(conversation, self._limits.max_duration_s)
        return conversation

    def forget(self, conversation: Session) -> None:
        if self._plain.pop(conversation.id, None) is not None:
            self._tasks.spawn(conversation.close(), name="close session")

    # The end of the service

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def draining(self) -> bool:
        return self._draining

    async def drain(self, timeout_s: float) -> None:
        """No new calls; wait for the live ones, then end what is left."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()
        for line in list(self._lines.values()):
            self.end(line)
        for owner in list(self._plain.values()):
            owner.session_abandoned()

    async def close(self) -> None:
        """What is ending may end: a hangup is followed by the close of its session."""
        deadline = self._loop.time() + SETTLING_S
        while len(self._tasks) and self._loop.time() < deadline:
            await self._tasks.settle(timeout_s=deadline - self._loop.time())
        await self._tasks.close()

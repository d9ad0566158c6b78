"""One conversation: the Realtime protocol, one backend, the clients, and the playout of a leg.

Everything here is a join. Events of the backend, of the playout and of clients become calls of
the sans-IO RealtimeServer; what it puts out is carried to clients, backend and playout.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, assert_never

from bridge import metrics
from bridge.backends import base
from bridge.backends.tools import ToolServer
from bridge.errors import BridgeError, RequestError
from bridge.ids import ResponseId, SessionId
from bridge.media.lumps import Lumps
from bridge.media.stream import AudioStream
from bridge.realtime import outputs as wanted
from bridge.realtime.options import CALL_TOOLS
from bridge.realtime.server import Policy, RealtimeServer
from bridge.realtime.session_config import SessionConfig
from bridge.sessions.alarm import Alarm
from bridge.sessions.barge_in import BargeIns
from bridge.sessions.call_tools import CallTools
from bridge.sessions.cleaning import Cleaning
from bridge.sessions.clients import (
    GOING_AWAY,
    NORMAL,
    ChannelClient,
    Client,
    Clients,
    SidebandClient,
)
from bridge.sessions.digits import press
from bridge.sessions.diversion import RECORD_TONE, Diversion
from bridge.sessions.hold import Hold
from bridge.sessions.last_word import LastWord
from bridge.sessions.line import Line
from bridge.sessions.listener import SessionListener
from bridge.sessions.model_events import asked, heard, responded
from bridge.sessions.terms import Terms
from bridge.sessions.tools import Tools
from bridge.sessions.wire_audio import g711

log = logging.getLogger(__name__)

SAYS_AT_MOST_S = 60.0


class Session:
    def __init__(
        self,
        session_id: SessionId,
        *,
        backend: base.Backend,
        config: SessionConfig,
        terms: Terms,
        unix_time: Callable[[], float],
        listener: SessionListener | None = None,
    ) -> None:
        self.id = session_id
        self.listener = listener or SessionListener()
        self._loop = asyncio.get_running_loop()
        self._backend = backend
        self._terms = terms
        self._unix_time = unix_time
        self._clients = Clients()
        self._stream: AudioStream | None = None
        self._server = RealtimeServer(
            session_id=session_id,
            config=config,
            on_call=terms.on_call,
            expires_at=terms.expires_at,
            now=self._loop.time(),
            policy=Policy(
                strict_voice=terms.strict_voice,
                wire_audio=g711,
                max_input_tokens=backend.capabilities.max_input_tokens,
            ),
        )
        self._follower = backend if isinstance(backend, base.Follower) else None
        if self._follower is not None:
            server = self._server
            self._follower.follow(lambda: server.items)
        self._tools = Tools(self._open_tools, listed=self._listed_tools, ran=self._tool_ran)
        self._alarm = Alarm(self._loop)
        self._line = Line()
        self._times_turns = backend.capabilities.times_turns
        self._asides = 0
        self._barge_ins = BargeIns(
            self._loop.time, lambda record: self.listener.session_barge_in(record)
        )
        self._last_word = LastWord(self._loop)
        self._diversion = Diversion()
        self._hold = Hold()
        self._cleaning = Cleaning(backend, terms.cleaning)
        self._cleaning.configure(config.noise_reduction)
        self._carrying = False
        self._said = asyncio.Event()
        self._closing = False
        self._closed = False

    @property
    def config(self) -> SessionConfig:
        return self._server.config

    async def start(self) -> None:
        """Raises BackendError when the model cannot be reached; nothing is left to close then."""
        try:
            await self._backend.start(self._server.model_session, self._from_backend)
        except (BridgeError, asyncio.CancelledError):
            await self._backend.close()
            raise
        metrics.sessions_live.inc()

    def greet(self) -> None:
        """Have the agent speak first: the configured greeting, or what it thinks right."""
        instructions = base.greeting_instructions(self._terms.greeting)
        self._server.create_response(
            self._loop.time(), instructions=instructions if self._terms.greeting else None
        )
        self._carry_out()

    def connect(self, stream: AudioStream) -> None:
        """Join the audio of a leg. What is said waits in its playout until the leg is answered.

        Another one takes the place of the first, and what that has not played is not heard.
        """
        if self._stream is not None and self._stream is not stream:
            self._stream.on_frame = self._stream.on_coded = self._stream.playout.on_read = None
            self._stream.lumps = None
            self._silence()
            self._carry_out()
        self._stream = stream
        stream.on_frame = self._from_caller
        stream.lumps = Lumps(self._is_patient)
        stream.playout.on_started = self._playback_started
        stream.playout.on_finished = self._playback_finished
        stream.on_coded = base.coded_to(self._backend)
        stream.playout.on_read = self._cleaning.on_read

    # Clients

    def attach(self, *, extras: bool = False) -> SidebandClient:
        client = SidebandClient(extras=extras)
        self._welcome(client)
        return client

    def attach_channel(self, send: Callable[[str], None]) -> ChannelClient:
        client = ChannelClient(send)
        self._welcome(client)
        return client

    def _welcome(self, client: Client) -> None:
        if self._closed:
            client.close(NORMAL, "session ended")
            return
        self._clients.add(client)
        extras = isinstance(client, SidebandClient) and client.extras
        self._server.attach(client.id, self._loop.time(), extras=extras)
        self._carry_out()

    def detach(self, client: Client) -> None:
        self._clients.discard(client)
        self._server.detach(client.id)
        if not self._terms.on_call and not self._clients:
            self.listener.session_abandoned()

    def receive(self, client: Client, text: str | bytes) -> None:
        if self._closed:
            return
        if self._stream is not None:
            self._stream.flush()
        self._server.receive(client.id, text, self._loop.time())
        self._carry_out()

    def go_on(self, client: Client) -> bool:
        """Whether there was more to do of a long event: others have their turn before the rest."""
        more = not self._closed and self._server.go_on(client.id, self._loop.time())
        self._carry_out()
        return more

    # The caller

    def _from_caller(self, pcm: base.Pcm) -> None:
        self._barge_ins.hear(len(pcm))
        voice = words = pcm
        if self._hold.waits or not self._cleaning.idle:
            voice, words = self._cleaning.hear(self._hold.hear(pcm))
        now = self._loop.time()
        if self._stream is not None:
            if self._times_turns:
                self._line.heard(now, self._stream)
            if voice is not pcm and self._stream.on_coded is not None:
                # The octets that came are of something else.
                self._stream.on_coded(b"", "")
        self._server.audio_received(words, now)
        self._backend.push_audio(voice)
        self._diversion.hear(voice)

    def _is_patient(self) -> bool:
        """Nobody here needs the caller's frames one by one, and no client commits them."""
        at_once = self._diversion.active or self.config.turn_detection is None
        return not at_once and self._cleaning.idle and self._backend.capabilities.patient

    def digits_collected(self, digits: str) -> None:
        """One item of the caller's for all of them, and its answer."""
        self._server.digits_collected(digits, self._loop.time())
        self._carry_out()

    def digit(self, digit: str, *, collects: bool = False) -> None:
        """`collects`: what it means is told later, by `digits_collected`."""
        self._server.digit(
            digit,
            int(self._unix_time()),
            as_turn=self._backend.capabilities.hears_dtmf and not collects,
            now=self._loop.time(),
        )
        self._carry_out()

    def transport_event(self, kind: str, **fields: Any) -> None:
        """Something happened to the call: "transport.held", …; for clients that asked for it."""
        self._server.transport_event(kind, self._loop.time(), fields)
        self._carry_out()

    def _press(self, order: wanted.SendDigits) -> None:
        try:
            self.send_digits(order.digits)
        except RequestError as error:
            self._server.refuse(order.client, order.event_id, error)
            return
        told = {"event": order.digits}
        self._server.transport_event("transport.dtmf.sent", self._loop.time(), told)

    def _playback_started(self, key: str) -> None:
        self._backend.agent_speaking(True)
        self._server.playback_started(key)
        self._carry_out()

    def _playback_finished(self, key: str) -> None:
        self._backend.agent_speaking(False)
        self._server.playback_finished(key, self._loop.time())
        self._carry_out()

    # Tools

    def _open_tools(self, tool: Mapping[str, Any]) -> AbstractAsyncContextManager[ToolServer]:
        if tool.get("server_url") == CALL_TOOLS:
            return CallTools(self).open()
        return self._terms.tool_servers(tool)

    def _listed_tools(self, label: str, tools: Sequence[Mapping[str, Any]] | None) -> None:
        self._server.tools_listed(label, tools)
        self._carry_out()

    def _tool_ran(self, item_id: str, output: str | None, error: Mapping[str, Any] | None) -> None:
        self._server.tool_ran(item_id, output, error, self._loop.time())
        self._carry_out()

    def end_call(self, target: str = "") -> None:
        """When what the model says now has been heard."""
        active = self._server.active_response_id
        last = None if active is None else ResponseId(active)
        self._last_word.expect(last, partial(self._leave, target, returns=True))

    def transfer_call(self, target: str) -> None:
        """Likewise. Raises BridgeError."""
        self.end_call(self.listener.transfer_target(target))

    async def hold(self, seconds: float) -> None:
        await self._hold.keep(seconds, lambda tone: self._on_call(base.Aside(tone)))

    def send_digits(self, digits: str) -> None:
        """Raises RequestError."""
        press(self._stream, digits)

    def inform(self, text: str) -> None:
        """Something happened to the call that the model should speak to."""
        self._server.inform(text, self._loop.time())
        self._carry_out()

    def _silence(self) -> None:
        """Barge-in: the wire goes quiet first, then everybody is told what was heard."""
        now = self._loop.time()
        stream = self._stream
        cuts = stream.playout.clear() if stream is not None else []
        if stream is not None and cuts:
            if not self._closing:
                self._barge_ins.cut(stream.playout)
            self._backend.agent_speaking(False)
        self._last_word.take_back()
        for cut in cuts:
            self._server.playback_cut(cut.key, cut.played_ms, now)
        self._server.playout_cleared(now)

    # The model

    def _from_backend(self, event: base.BackendEvent) -> None:
        if self._closed or self._diversion.takes(event):
            return
        match event:
            case base.LoopAudio(pcm):
                # The playout of a held call stands still: all that follows would be late for good.
                if self._stream is not None and not self._stream.held:
                    self._stream.playout.write("", pcm)
                return
            case base.CallAction(response_id, action, target, returns):
                to = target if action == "transfer" else ""
                self._last_word.expect(response_id, partial(self._leave, to, returns=returns))
            case base.TakeMessage(response_id, terms):
                self._last_word.expect(response_id, partial(self._take_message, terms))
            case base.ResponseBegun():
                self._server.create_response(self._loop.time())
            case base.Relay(told):
                self._server.relay(told)
            case base.Aside() | base.HoldPlayout() | base.TurnTimed():
                self._on_call(event)
            case (
                base.SpeechStarted()
                | base.SpeechStopped()
                | base.TranscriptDelta()
                | base.TranscriptCompleted()
                | base.TranscriptFailed()
            ):
                if isinstance(event, base.SpeechStopped):
                    self._line.turn_ended(self._loop.time())
                detection = self.config.turn_detection
                if isinstance(event, base.SpeechStarted) and detection is not None:
                    self._barge_ins.speech_started(
                        event.audio_ms,
                        detection.prefix_padding_ms,
                        waiting_ms=0 if self._stream is None else self._stream.gathered_ms,
                    )
                answer = not self._backend.capabilities.answers_turns
                heard(self._server, event, self._loop.time(), answer=answer)
            case _:
                responded(self._server, event, self._loop.time())
        self._carry_out()

    def _on_call(self, event: base.CallEvent) -> None:
        if (stream := self._stream) is None:
            return
        match event:
            case base.Aside(pcm) if len(pcm):
                self._asides += 1
                stream.playout.write(f"aside_{self._asides}", pcm)
                stream.playout.finish(f"aside_{self._asides}")
            case base.Aside():
                self._silence()
            case base.HoldPlayout(held):
                stream.playout.paused = held
                if held:
                    self._barge_ins.paused(stream.playout)
                else:
                    self._barge_ins.resumed()
            case base.TurnTimed(record):
                self.listener.session_turn(self._line.add_to(record))

    def _cancel(self, response_id: ResponseId) -> None:
        self._last_word.cancelled(response_id)
        self._backend.cancel(response_id)

    def _hang_up_if_said(self) -> None:
        if self._speaks:
            return
        self._said.set()
        self._last_word.said()

    def _leave(self, target: str, *, returns: bool) -> None:
        if target:
            self.listener.session_transfer(target, returns=returns)
        else:
            self.listener.session_hangup()

    def _take_message(self, terms: base.MessageTerms) -> None:
        taker = self.listener.session_message(terms)
        if taker is None:
            self.inform("[message failed]")
        else:
            self._diversion.begin(taker)
            self._on_call(base.Aside(RECORD_TONE))

    def message_over(self, news: str) -> None:
        """What the caller says is the model's again; `news` is for it to speak to."""
        self._diversion.end()
        self.inform(news)

    # What the protocol wants done

    def _carry_out(self) -> None:
        # A backend may answer from within `generate`: what that causes waits its turn.
        if self._carrying:
            return
        self._carrying = True
        try:
            while outputs := self._server.take():
                for output in outputs:
                    self._perform(output)
        finally:
            self._carrying = False
        self._alarm.set(None if self._closed else self._server.next_timer(), self._time_passed)
        self._hang_up_if_said()

    def _time_passed(self) -> None:
        self._server.handle_timer(self._loop.time())
        self._carry_out()

    def _perform(self, output: wanted.Output) -> None:
        match output:
            case wanted.Send(event, to):
                self._clients.tell(event, to=to)
                if to is None and self._follower is not None:
                    self._follower.told(event)
            case wanted.Play() | wanted.FinishPlay():
                self._play(output)
            case wanted.ClearPlayout():
                self._silence()
            case wanted.SendDigits():
                self._press(output)
            case (
                wanted.OpenServer() | wanted.CloseServer() | wanted.CallTool() | wanted.CancelTool()
            ):
                self._tools.perform(output)
            case wanted.PushAudio(pcm):
                self._backend.push_audio(pcm)
            case wanted.StartResponse():
                self._backend.generate(asked(output))
            case wanted.CancelResponse(response_id):
                self._cancel(response_id)
            case wanted.Transcribe(item_id, pcm):
                self._backend.transcribe(item_id, pcm)
            case wanted.ConfigChanged():
                self._cleaning.configure(self.config.noise_reduction)
                self._backend.configure(self._server.model_session)
            case _:
                assert_never(output)

    def _play(self, order: wanted.Play | wanted.FinishPlay) -> None:
        if self._stream is None:
            return
        if isinstance(order, wanted.Play):
            self._stream.playout.write(order.key, order.pcm, order.coded)
        else:
            self._stream.playout.finish(order.key)

    async def said(self, timeout_s: float = SAYS_AT_MOST_S) -> None:
        """Returns when the agent has said what it has to say, or after `timeout_s`."""
        if self._speaks:
            self._said.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._said.wait()

    @property
    def _speaks(self) -> bool:
        heard = self._stream is not None and not self._stream.playout.idle
        return heard or self._server.active_response_id is not None

    # The end

    def expire(self, duration_s: int) -> None:
        """The maximum duration is over: say so as the real API does, then end."""
        minutes = max(1, duration_s // 60)
        text = f"Your session hit the maximum duration of {minutes} minutes."
        self._server.fail("session_expired", text)
        self.finish("expired")
        self._clients.close(GOING_AWAY, text)
        self.listener.session_expired()

    def finish(self, reason: str) -> None:
        """Nothing new begins, and clients are told how what is open ended. Idempotent."""
        self._server.finish(self._loop.time(), reason=reason)
        self._carry_out()

    async def close(self, reason: str = "call ended") -> None:
        """Every open response is closed, every client gets the end of the story. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._last_word.take_back()
        self.finish(reason)
        self._closed = True
        self._alarm.stop()
        if self._stream is not None:
            self._stream.on_frame = self._stream.on_coded = self._stream.lumps = None
            playout = self._stream.playout
            playout.on_started = playout.on_finished = playout.on_read = None
        self._clients.close(NORMAL, reason)
        metrics.sessions_live.dec()
        await self._tools.close()
        await self._backend.close()
        # Full collections are rare: what ends with its call is freed by its references.
        self._stream = None
        self.listener = SessionListener()
        self._barge_ins.close()
        self._cleaning.close()

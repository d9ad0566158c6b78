"""One session of the upstream: its events become the model's, our session's become its own."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from bridge.backends import base
from bridge.backends.upstream import events
from bridge.backends.upstream.caller import NOTICED_MS, Coder
from bridge.backends.upstream.events import Event, Fault
from bridge.backends.upstream.exchange import Exchange
from bridge.backends.upstream.link import Link
from bridge.backends.upstream.mirror import Message, Mirror
from bridge.backends.upstream.pulse import Due, Finding, Pulse
from bridge.backends.upstream.responses import Responses
from bridge.backends.upstream.session import SessionSync, as_history, format_name
from bridge.backends.upstream.talk import ChannelOwner, Talk
from bridge.backends.weighed import told
from bridge.ids import ItemId, ResponseId

log = logging.getLogger(__name__)

PIECE = base.MODEL_RATE // 5
SESSION_EVENT = "session"  # the event_id of our session.update
CALM_S = 10.0
"""A model that answered is not asked again for so long: what it does not hear may be no speech."""
REST_S = 0.5
"""Sound that has come and is not yet heard: with so little left the rest is due."""


class Channel:
    def __init__(self, talk: Talk, owner: ChannelOwner) -> None:
        self.ready = False
        self.fault: Fault | None = None
        """Why the session was refused."""
        self.live_since = 0.0
        self._talk = talk
        self._dialect = talk.dialect
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._link = Link(
            talk.settings,
            talk.dialect,
            talk.rounds,
            on_message=self._received,
            on_lost=lambda reason: owner.channel_lost(self, reason),
        )
        self._sync = SessionSync(talk.settings, talk.dialect, talk.refused)
        self._coder = Coder(format_name(talk.settings, talk.dialect))
        self._mirror = Mirror(talk.dialect)
        self._responses = Responses(talk, self._mirror, self._coder, self._send)
        self._configured = False
        self._offset_ms = 0
        self._pulse = Pulse(talk.settings, self._loop.time())
        self._signed_at = float("-inf")
        self._commits: list[ItemId] = []
        self._turn: ItemId | None = None

    @property
    def configured(self) -> bool:
        return self._configured

    # Its life

    async def open(self) -> None:
        """Raises BackendError."""
        await self._link.open()
        self._pulse.event(self._loop.time())

    async def close(self) -> None:
        self._responses.close()
        await self._link.close()

    def retire(self) -> None:
        """Another one has taken over: what still comes is nobody's."""
        self._responses.close()
        self._link.forget()

    def lose(self, reason: str) -> None:
        self._link.lose(reason)

    @property
    def live(self) -> bool:
        """Whether this is the model now."""
        return self._responses.live

    def check(self, now: float) -> bool:
        """To be called every TICK_S. Whether the model is still there."""
        due = self._due(now)
        match self._pulse.check(due, now):
            case Finding.PROBE:
                self._probe()
            case Finding.LATE if due is Due.ANSWER and not self._responses.nudged:
                # Some models find nothing to answer.
                self._pulse.event(now)
                self._responses.nudge()
            case Finding.LATE | Finding.GONE:
                return False
            case _:
                pass
        return True

    def leaves_waiting(self, now: float, patience_s: float) -> bool:
        """The caller has heard nothing for so long in the middle of a message, or nothing comes of
        the answer that is due, or of what the caller said, or there is no session yet."""
        if not self.ready:
            return True
        if self._responses.sounding:
            return now - patience_s > self._talk.audible_until
        if self._pulse.silent_s(now) <= self._talk.settings.flow_timeout_s:
            return False
        if self._talk.answer_owed or self._responses.to_sound:
            return True
        caller = self._talk.caller
        return caller.unnoticed(NOTICED_MS) and caller.quiet

    def _due(self, now: float) -> Due:
        talk = self._talk
        if self._responses.sounding:
            return Due.SOUND if now > talk.audible_until - REST_S else Due.EVENT
        if not self.ready:
            return Due.SESSION
        if self._responses.due:
            return Due.EVENT
        if not self.live or talk.turn_detection is None:
            return Due.NOTHING
        if talk.answer_owed:
            return Due.ANSWER
        if talk.speech_from_ms is not None and talk.caller.quiet:
            return Due.EVENT
        if talk.speech_from_ms is not None or now <= self._signed_at + CALM_S:
            return Due.NOTHING
        return Due.SIGN if talk.caller.unnoticed(NOTICED_MS) else Due.NOTHING

    def _probe(self) -> None:
        """A busy server may leave events waiting, but not a ping. One that has nothing to do has
        no excuse."""
        busy = self._responses.due or self._talk.answer_owed or not self.ready
        if not busy and self._dialect.confirms_session:
            session = {"type": "realtime"} if self._dialect.typed_session else {}
            self._send({"type": "session.update", "session": session})
        else:
            self._link.ping(self._signed)

    def _signed(self) -> None:
        self._pulse.sign()
        self._signed_at = self._loop.time()
        self._talk.caller.notice()

    def take_over(self) -> None:
        """From now on this is the model: it gets the conversation, then what was not heard yet."""
        talk = self._talk
        for item in talk.items():
            self._send(*self._mirror.create(item))
        position_ms = talk.heard_ms if talk.speech_from_ms is None else talk.speech_from_ms
        self._offset_ms, pcm = talk.caller.since(position_ms)
        for begin in range(0, len(pcm), PIECE):
            piece = pcm[begin : begin + PIECE]
            self._link.send_audio(self._coder.encode(piece), len(piece))
        talk.caller.holding = talk.speech_from_ms is not None or talk.turn_detection is None
        self._responses.live = True
        self.live_since = self._loop.time()
        for exchange in list(talk.exchanges.values()):
            self.ask(exchange)
        if talk.answer_owed and not talk.exchanges:
            self._send({"type": "response.create"})

    # Orders

    def configure(self) -> None:
        history = ""
        if not self.live and not self._dialect.takes_assistant_items:
            history = as_history(self._talk.items())
        update = self._sync.update(self._talk.config, history=history)
        self._configured = True
        if update is not None:
            self._send({**update, "event_id": SESSION_EVENT})

    def push(self, pcm: base.Pcm, coded: tuple[bytes, str] | None = None) -> None:
        """`coded`: the same as octets of G.711, and by which law."""
        if self.live:
            audio = None if coded is None else self._coder.relay(*coded)
            self._link.send_audio(audio or self._coder.encode(pcm), len(pcm))

    def ask(self, exchange: Exchange) -> None:
        self._responses.ask(exchange)

    def cancel(self, exchange: Exchange) -> None:
        self._responses.cancel(exchange)

    def told(self, event: Mapping[str, Any]) -> None:
        """What happened to the conversation on our side."""
        match event["type"]:
            case "response.output_item.added":
                self._responses.bind_output(event)
            case "input_audio_buffer.committed":
                self._commit(event["item_id"])
            case "input_audio_buffer.cleared" if self._dialect.commits:
                self._send({"type": "input_audio_buffer.clear"})
            case "conversation.item.done" if self.live and not self._is_turn(event["item"]["id"]):
                previous = event.get("previous_item_id") or "root"
                self._send(*self._mirror.create(event["item"], previous))
            case "conversation.item.deleted":
                self._send(*self._mirror.delete(event["item_id"]))
            case "conversation.item.truncated":
                self._truncate(event["item_id"], event["audio_end_ms"])
            case _:
                pass

    def give_audio(self, item_id: ItemId, pcm: base.Pcm) -> None:
        """The words of this item are not known: it goes as sound."""
        if not self.live or item_id in self._mirror or self._is_turn(item_id):
            return
        audio = Coder("audio/pcm").encode(pcm).decode("ascii")
        part = {"type": "input_audio", "audio": audio}
        item = {"id": item_id, "type": "message", "role": "user", "content": [part]}
        self._send(*self._mirror.create(item))

    def _send(self, *messages: Message) -> None:
        for message in messages:
            self._link.send(message)

    def _is_turn(self, item_id: str) -> bool:
        return item_id == self._talk.turn_item or item_id in self._commits

    def _commit(self, item_id: ItemId) -> None:
        talk = self._talk
        if talk.committing:
            talk.turn_item = item_id
        elif self.live and self._dialect.commits:
            self._commits.append(item_id)
            talk.heard_ms = talk.caller.position_ms
            self._send({"type": "input_audio_buffer.commit"})

    def _truncate(self, item_id: str, audio_end_ms: int) -> None:
        if item_id not in self._mirror:
            return
        item = next((item for item in self._talk.items() if item["id"] == item_id), None)
        if item is not None:
            self._send(*self._mirror.truncate(item, audio_end_ms))

    # Events

    def _received(self, text: str | bytes) -> None:
        event = events.parse(text, KNOWN)
        if event is None:
            return
        if self._pulse.probing and event.type == "session.updated":
            self._signed()
        else:
            self._pulse.event(self._loop.time())
            self._talk.caller.notice()
        if event.type in BROUGHT:
            BROUGHT[event.type](self._responses, event)
        else:
            HEARD[event.type](self, event)

    def _session_created(self, event: Event) -> None:
        if not self._configured:
            self.configure()
            if not self._dialect.confirms_session:
                self._become_ready()

    def _session_updated(self, event: Event) -> None:
        self._session_created(event)
        self._become_ready()

    def _become_ready(self) -> None:
        if not self.ready:
            self.ready = True
            self._owner.channel_ready(self)

    def _speech_started(self, event: Event) -> None:
        self._talk.speech_started(self._position(event.audio_start_ms))

    def _speech_stopped(self, event: Event) -> None:
        self._turn = self._talk.speech_stopped(self._position(event.audio_end_ms))
        if self._turn is not None and event.item_id:
            self._mirror.bind(self._turn, event.item_id)

    def _position(self, ms: float | None) -> int:
        now_ms = self._talk.caller.position_ms
        return now_ms if ms is None else min(self._offset_ms + int(ms), now_ms)

    def _committed(self, event: Event) -> None:
        if self._mirror.ours(event.item_id) is None:
            item_id = self._commits.pop(0) if self._commits else self._turn
            if item_id is not None:
                self._mirror.bind(item_id, event.item_id)

    def _transcript_delta(self, event: Event) -> None:
        if (item_id := self._mirror.ours(event.item_id)) is not None and event.delta:
            heard = base.TranscriptDelta(ItemId(item_id), event.delta, told(event.logprobs))
            self._talk.emit(heard)

    def _transcript_completed(self, event: Event) -> None:
        talk, text = self._talk, event.transcript or ""
        item_id = ItemId(self._mirror.ours(event.item_id) or self._turn or "")
        if not text and item_id == talk.turn_item and not self._dialect.commits:
            talk.answer_owed = False  # there was nothing to answer
        if item_id:
            length_s, sure = talk.lengths.pop(item_id, 0.0), told(event.logprobs)
            talk.emit(base.TranscriptCompleted(item_id, text, length_s, sure))

    def _transcript_failed(self, event: Event) -> None:
        if (item_id := self._mirror.ours(event.item_id)) is not None:
            message = event.error.message if event.error else None
            self._talk.emit(base.TranscriptFailed(ItemId(item_id), message or "not transcribed"))

    def _limits(self, event: Event) -> None:
        if event.rate_limits is not None:
            told = {"type": "rate_limits.updated", "rate_limits": event.rate_limits}
            self._talk.emit(base.Relay(told))

    def _error(self, event: Event) -> None:
        fault = event.error or Fault()
        order = ResponseId(fault.event_id or "")
        if order in self._talk.exchanges:
            self._responses.refused(self._talk.exchanges[order], fault)
        elif fault.event_id == SESSION_EVENT or (fault.param or "").startswith("session."):
            self._session_refused(fault)
        elif not self.ready or fault.name == "session_expired":
            self.fault = fault
            self.lose("refused" if not self.ready else "expired")
        elif fault.name not in events.HARMLESS:
            log.warning("the model's server reports an error", extra={"code": fault.name})
            self._talk.emit(base.Relay(events.error_told(fault)))

    def _session_refused(self, fault: Fault) -> None:
        known = self._sync.refuse(fault.param)
        log.warning(
            "the model's server refuses the session", extra={"param": fault.param, "again": known}
        )
        if known:
            self.configure()
        elif not self.ready:
            self.fault = fault
            self.lose("refused")


def _note(_channel: Channel, event: Event) -> None:
    """It shows that the model is at work."""
    events.check_shape(event)


HEARD: Mapping[str, Callable[[Channel, Event], None]] = {
    "session.created": Channel._session_created,
    "conversation.created": Channel._session_created,
    "session.updated": Channel._session_updated,
    "input_audio_buffer.speech_started": Channel._speech_started,
    "input_audio_buffer.speech_stopped": Channel._speech_stopped,
    "input_audio_buffer.committed": Channel._committed,
    "conversation.item.input_audio_transcription.delta": Channel._transcript_delta,
    "conversation.item.input_audio_transcription.completed": Channel._transcript_completed,
    "conversation.item.input_audio_transcription.failed": Channel._transcript_failed,
    "rate_limits.updated": Channel._limits,
    "error": Channel._error,
    **dict.fromkeys(
        (
            "conversation.item.added",
            "response.output_item.added",
            "response.content_part.added",
            "response.function_call_arguments.delta",
        ),
        _note,
    ),
}
BROUGHT: Mapping[str, Callable[[Responses, Event], None]] = {
    "response.created": Responses.created,
    "response.output_audio.delta": Responses.audio,
    "response.output_audio.done": Responses.audio_done,
    "response.output_audio_transcript.delta": Responses.text,
    "response.output_text.delta": Responses.text,
    "response.output_audio_transcript.done": Responses.text_done,
    "response.output_text.done": Responses.text_done,
    "response.function_call_arguments.done": Responses.arguments_done,
    "response.output_item.done": Responses.item_done,
    "response.done": Responses.done,
}
KNOWN = frozenset((*HEARD, *BROUGHT))

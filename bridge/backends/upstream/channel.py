"""One session of the upstream: its events become the model's, our session's become its own."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from bridge.backends import base
from bridge.backends.upstream import events
from bridge.backends.upstream.caller import Coder
from bridge.backends.upstream.events import Event, Fault
from bridge.backends.upstream.exchange import MAX_AUDIO_S, Exchange
from bridge.backends.upstream.link import Link
from bridge.backends.upstream.mirror import Message, Mirror
from bridge.backends.upstream.session import SessionSync, as_history, format_name
from bridge.backends.upstream.talk import ChannelOwner, Talk
from bridge.ids import ItemId, ResponseId, ToolCallId

log = logging.getLogger(__name__)

PIECE = base.MODEL_RATE // 5
RETRY_S = 0.25
SESSION_EVENT = "session"  # the event_id of our session.update


class Channel:
    def __init__(self, talk: Talk, owner: ChannelOwner) -> None:
        self.ready = False
        self.live = False
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
            on_message=self._received,
            on_lost=lambda reason: owner.channel_lost(self, reason),
        )
        self._sync = SessionSync(talk.settings, talk.dialect, talk.refused)
        self._coder = Coder(format_name(talk.settings, talk.dialect))
        self._mirror = Mirror(talk.dialect)
        self._configured = False
        self._offset_ms = 0
        self._heard_at = self._loop.time()
        self._asked: list[Exchange] = []
        self._waiting: list[Exchange] = []
        self._bound: dict[str, Exchange] = {}
        self._over: set[str] = set()
        self._active: str | None = None
        self._commits: list[ItemId] = []
        self._turn: ItemId | None = None
        self._tool_item = ""
        self._nudged = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def configured(self) -> bool:
        return self._configured

    # Its life

    async def open(self) -> None:
        """Raises BackendError."""
        await self._link.open()
        self._heard_at = self._loop.time()

    async def close(self) -> None:
        self.live = False
        if self._retry is not None:
            self._retry.cancel()
        await self._link.close()

    def lose(self, reason: str) -> None:
        self._link.lose(reason)

    def stalled(self, now: float) -> bool:
        """Something is waited for, and nothing has come."""
        waiting = not self.ready or self._asked or self._active or self._waiting or self._nudged
        owed = self.live and self._talk.answer_owed
        if not waiting and not owed:
            self._heard_at = now
        late = now - self._heard_at > self._talk.settings.stall_timeout_s
        if late and not waiting:
            # Some models find nothing to answer: this one is asked before it is given up.
            self._nudged, self._heard_at = True, now
            self._send({"type": "response.create"})
            return False
        return late

    def take_over(self) -> None:
        """From now on this is the model: it gets the conversation, then what was not heard yet."""
        talk = self._talk
        for item in talk.items():
            self._send(*self._mirror.create(item))
        position_ms = talk.heard_ms if talk.speech_from_ms is None else talk.speech_from_ms
        self._offset_ms, pcm = talk.caller.since(position_ms)
        for begin in range(0, len(pcm), PIECE):
            self._append(pcm[begin : begin + PIECE])
        talk.caller.holding = talk.speech_from_ms is not None or talk.turn_detection is None
        self.live = True
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

    def push(self, pcm: base.Pcm) -> None:
        if self.live:
            self._append(pcm)

    def ask(self, exchange: Exchange) -> None:
        if not self.live or exchange.cancelled:
            return
        alone = exchange.request.in_conversation
        if alone and (self._active or any(e.request.in_conversation for e in self._asked)):
            self._waiting.append(exchange)
            return
        order = exchange.order(self._dialect, self._talk.config)
        if exchange.request.own_input and self._dialect.out_of_band:
            given = self._mirror.input(exchange.request.items)
            order.setdefault("response", {})["input"] = given
        exchange.asked = True
        self._asked.append(exchange)
        self._send(order)

    def cancel(self, exchange: Exchange) -> None:
        exchange.cancelled = True
        if exchange in self._waiting:
            self._waiting.remove(exchange)
        if exchange.upstream_id is not None:
            self._silence(exchange.upstream_id)

    def told(self, event: Mapping[str, Any]) -> None:
        """What happened to the conversation on our side."""
        match event["type"]:
            case "response.output_item.added":
                self._bind_output(event)
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
        part = {"type": "input_audio", "audio": Coder("audio/pcm").encode(pcm)}
        item = {"id": item_id, "type": "message", "role": "user", "content": [part]}
        self._send(*self._mirror.create(item))

    def _append(self, pcm: base.Pcm) -> None:
        self._link.send_audio(self._coder.encode(pcm), len(pcm))

    def _send(self, *messages: Message) -> None:
        for message in messages:
            self._link.send(message)

    def _silence(self, upstream_id: str) -> None:
        """No event of this response is wanted any more."""
        if self._bound.pop(upstream_id, None) is None and upstream_id in self._over:
            return
        self._over.add(upstream_id)
        if self._dialect.cancels:
            which = {"response_id": upstream_id} if self._dialect.out_of_band else {}
            self._send({"type": "response.cancel", **which})

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

    def _bind_output(self, event: Mapping[str, Any]) -> None:
        exchange = self._talk.exchanges.get(event["response_id"])
        item = event["item"]
        if exchange is None or not exchange.request.in_conversation:
            return
        if item["type"] == "message":
            exchange.item_id = item["id"]
            if exchange.upstream_item:
                self._mirror.bind(exchange.item_id, exchange.upstream_item)
        elif self._tool_item:
            self._mirror.bind(item["id"], self._tool_item)

    def _truncate(self, item_id: str, audio_end_ms: int) -> None:
        if item_id not in self._mirror:
            return
        item = next((item for item in self._talk.items() if item["id"] == item_id), None)
        if item is not None:
            self._send(*self._mirror.truncate(item, audio_end_ms))

    # Events

    def _received(self, text: str | bytes) -> None:
        event = events.parse(text, KNOWN)
        if event is not None:
            self._heard_at = self._loop.time()
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
            self._talk.emit(base.TranscriptDelta(ItemId(item_id), event.delta))

    def _transcript_completed(self, event: Event) -> None:
        talk, text = self._talk, event.transcript or ""
        item_id = ItemId(self._mirror.ours(event.item_id) or self._turn or "")
        if not text and item_id == talk.turn_item and not self._dialect.commits:
            talk.answer_owed = False  # there was nothing to answer
        if item_id:
            talk.emit(base.TranscriptCompleted(item_id, text, talk.lengths.pop(item_id, 0.0)))

    def _transcript_failed(self, event: Event) -> None:
        if (item_id := self._mirror.ours(event.item_id)) is not None:
            message = event.error.message if event.error else None
            self._talk.emit(base.TranscriptFailed(ItemId(item_id), message or "not transcribed"))

    def _created(self, event: Event) -> None:
        response = event.response
        if response is None or response.id in self._over or response.id in self._bound:
            return
        exchange = self._match(response.metadata)
        unasked = exchange is None
        if exchange is None and (self._talk.answers_turns or self._talk.answer_owed):
            exchange = self._talk.offer()
        if exchange is None or exchange.request.in_conversation:
            self._active = response.id
            self._talk.answer_owed = self._nudged = False
        if exchange is None or exchange.cancelled:
            log.info("response not wanted", extra={"unasked": unasked})
            self._silence(response.id)
            return
        exchange.upstream_id = response.id
        self._bound[response.id] = exchange

    def _match(self, metadata: Mapping[str, Any] | None) -> Exchange | None:
        """Which order this answers: the one it names, or else the first."""
        name = (metadata or {}).get("response")
        named = [e for e in self._asked if e.request.response_id == name]
        found = named or [e for e in self._asked if e.request.in_conversation or not metadata]
        if not found:
            return None
        self._asked.remove(found[0])
        return found[0]

    def _exchange(self, event: Event) -> Exchange | None:
        name = event.response_id or self._active or ""
        if name not in self._bound and name not in self._over and name:
            # Some servers begin without a word.
            self._created(Event("response.created", response=events.Response(name)))
        exchange = self._bound.get(name)
        if exchange is not None and event.item_id and event.item_id != exchange.upstream_item:
            self._begin_item(exchange, event.item_id)
        return exchange

    def _begin_item(self, exchange: Exchange, upstream_item: str) -> None:
        exchange.upstream_item = upstream_item
        exchange.told_chars = 0
        if exchange.item_id:
            self._mirror.bind(exchange.item_id, upstream_item, base_ms=exchange.audio_ms)

    def _audio(self, event: Event) -> None:
        exchange = self._exchange(event)
        if exchange is None:
            return
        data = exchange.odd + events.sound(event)
        whole = len(data) - len(data) % self._coder.sample_bytes
        exchange.odd = data[whole:]
        pcm = self._coder.decode(data[:whole])
        exchange.samples += len(pcm)
        self._talk.heard(len(pcm) / base.MODEL_RATE)
        self._talk.emit(base.AudioDelta(exchange.request.response_id, pcm))
        if exchange.samples > MAX_AUDIO_S * base.MODEL_RATE and exchange.upstream_id:
            self._silence(exchange.upstream_id)
            self._finish(exchange, "max_output_tokens", {})

    def _text(self, event: Event) -> None:
        exchange = self._exchange(event)
        if exchange is not None and event.delta:
            exchange.text += event.delta
            exchange.told_chars += len(event.delta)
            self._talk.emit(base.TextDelta(exchange.request.response_id, event.delta))

    def _text_done(self, event: Event) -> None:
        exchange = self._exchange(event)
        said = event.transcript or event.text
        if exchange is not None and said and not exchange.told_chars:
            event.delta = said
            self._text(event)

    def _arguments_done(self, event: Event) -> None:
        if event.name:
            item = events.Item(event.item_id, "function_call", name=event.name)
            item.call_id, item.arguments = event.call_id, event.arguments
            self._tool_call(event, item)

    def _item_done(self, event: Event) -> None:
        item = event.item
        if item is None:
            return
        if item.type == "function_call":
            self._tool_call(event, item)
        elif (exchange := self._exchange(event)) is not None and item.type == "message":
            exchange.message_done = True

    def _tool_call(self, event: Event, item: events.Item) -> None:
        event.item_id = ""
        exchange = self._exchange(event)
        call_id = item.call_id or item.id
        if exchange is None or not item.name or call_id in exchange.calls:
            return
        exchange.calls.add(call_id)
        self._tool_item = item.id
        self._talk.emit(
            base.ToolCall(
                exchange.request.response_id, ToolCallId(call_id), item.name, item.arguments or "{}"
            )
        )
        self._tool_item = ""

    def _done(self, event: Event) -> None:
        response = event.response
        if response is None:
            return
        if response.id == self._active:
            self._active = None
        exchange = self._bound.pop(response.id, None)
        self._over.add(response.id)
        if exchange is not None:
            details = response.status_details
            reason = details.reason if details else None
            if response.status == "failed":
                error = (details.error if details else None) or {}
                code = error.get("code") or "server_error"
                self._fail(exchange, str(code), str(error.get("message") or "The model failed."))
            else:
                self._finish(exchange, reason, events.text_tokens(response.usage or {}))
        self._ask_next()

    def _ask_next(self) -> None:
        self._retry = None
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            self.ask(exchange)

    def _finish(self, exchange: Exchange, reason: str | None, used: Mapping[str, int]) -> None:
        self._talk.exchanges.pop(exchange.request.response_id, None)
        self._talk.emit(base.ResponseFinished(exchange.request.response_id, reason, used))

    def _fail(self, exchange: Exchange, code: str, message: str) -> None:
        self._talk.exchanges.pop(exchange.request.response_id, None)
        self._talk.emit(base.ResponseFailed(exchange.request.response_id, code, message))

    def _limits(self, event: Event) -> None:
        if event.rate_limits is not None:
            told = {"type": "rate_limits.updated", "rate_limits": event.rate_limits}
            self._talk.emit(base.Relay(told))

    def _error(self, event: Event) -> None:
        fault = event.error or Fault()
        order = ResponseId(fault.event_id or "")
        if order in self._talk.exchanges:
            self._order_refused(self._talk.exchanges[order], fault)
        elif fault.event_id == SESSION_EVENT or (fault.param or "").startswith("session."):
            self._session_refused(fault)
        elif not self.ready or fault.code == "session_expired":
            self.fault = fault
            self.lose("refused" if not self.ready else "expired")
        elif fault.code not in events.HARMLESS:
            log.warning("the model's server reports an error", extra={"code": fault.code})
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

    def _order_refused(self, exchange: Exchange, fault: Fault) -> None:
        if exchange.upstream_id is not None:
            return  # it was answered by a response that the model began itself
        if exchange in self._asked:
            self._asked.remove(exchange)
        if fault.code == "conversation_already_has_active_response":
            self._waiting.append(exchange)
            if self._active is None and self._retry is None:
                self._retry = self._loop.call_later(RETRY_S, self._ask_next)
            return
        self._fail(exchange, fault.code or "server_error", fault.message or "The model refused.")


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
    "response.created": Channel._created,
    "response.output_audio.delta": Channel._audio,
    "response.output_audio_transcript.delta": Channel._text,
    "response.output_text.delta": Channel._text,
    "response.output_audio_transcript.done": Channel._text_done,
    "response.output_text.done": Channel._text_done,
    "response.function_call_arguments.done": Channel._arguments_done,
    "response.output_item.done": Channel._item_done,
    "response.done": Channel._done,
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
KNOWN = frozenset(HEARD)

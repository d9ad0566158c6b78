"""The responses of one connection: which of theirs is which of ours, and what they bring."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.backends import base
from bridge.backends.upstream import events
from bridge.backends.upstream.caller import Coder
from bridge.backends.upstream.events import Event, Fault
from bridge.backends.upstream.exchange import MAX_AUDIO_S, Exchange
from bridge.backends.upstream.mirror import Message, Mirror
from bridge.backends.upstream.talk import Talk
from bridge.ids import ToolCallId

log = logging.getLogger(__name__)

RETRY_S = 0.25


class Responses:
    """One at a time for the conversation, those beside it at once."""

    def __init__(
        self, talk: Talk, mirror: Mirror, coder: Coder, send: Callable[[Message], None]
    ) -> None:
        self.live = False
        """Whether this connection is the one that answers."""
        self.nudged = False
        """The model was asked for an answer that it did not begin itself."""
        self._talk = talk
        self._dialect = talk.dialect
        self._mirror = mirror
        self._coder = coder
        self._send = send
        self._asked: list[Exchange] = []
        self._waiting: list[Exchange] = []
        self._bound: dict[str, Exchange] = {}
        self._over: set[str] = set()
        self._active: str | None = None
        self._tool_item = ""
        self._retry: asyncio.TimerHandle | None = None

    @property
    def due(self) -> bool:
        """Something was asked for, or has begun and is not over."""
        return bool(self._asked or self._active or self._waiting)

    @property
    def sounding(self) -> bool:
        """A message has begun to sound and is not over."""
        return any(exchange.sounding for exchange in self._bound.values())

    @property
    def to_sound(self) -> bool:
        """Something that is to be heard is not there yet."""
        return any(
            not exchange.whole and "audio" in exchange.request.output_modalities
            for exchange in (*self._asked, *self._waiting, *self._bound.values())
        )

    def close(self) -> None:
        self.live = False
        if self._retry is not None:
            self._retry.cancel()

    def nudge(self) -> None:
        self.nudged = True
        self._send({"type": "response.create"})

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
        elif alone:
            self._tell_outputs(exchange.request.items)
        exchange.asked = True
        self._asked.append(exchange)
        self._send(order)

    def _tell_outputs(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Of tools that were run here: no client has made items of them."""
        for item in items:
            if item["type"] == "function_call_output":
                for message in self._mirror.create(item):
                    self._send(message)

    def cancel(self, exchange: Exchange) -> None:
        exchange.cancelled = True
        if exchange in self._waiting:
            self._waiting.remove(exchange)
        if exchange.upstream_id is not None:
            self._silence(exchange.upstream_id)

    def _silence(self, upstream_id: str) -> None:
        """No event of this response is wanted any more."""
        if self._bound.pop(upstream_id, None) is None and upstream_id in self._over:
            return
        self._over.add(upstream_id)
        if self._dialect.cancels:
            which = {"response_id": upstream_id} if self._dialect.out_of_band else {}
            self._send({"type": "response.cancel", **which})

    def bind_output(self, event: Mapping[str, Any]) -> None:
        """An item of ours was made of what came."""
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

    # Events

    def created(self, event: Event) -> None:
        response = event.response
        if response is None or response.id in self._over or response.id in self._bound:
            return
        exchange = self._match(response.metadata)
        unasked = exchange is None
        if exchange is None and (self._talk.answers_turns or self._talk.answer_owed):
            exchange = self._talk.offer()
        if exchange is None or exchange.request.in_conversation:
            self._active = response.id
            self._talk.answer_owed = self.nudged = False
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
        if found[0].cancelled and not named and self._talk.answer_owed:
            return None  # the caller has spoken since: it is the answer to that
        return found[0]

    def _exchange(self, event: Event) -> Exchange | None:
        name = event.response_id or self._active or ""
        if name not in self._bound and name not in self._over and name:
            # Some servers begin without a word.
            self.created(Event("response.created", response=events.Response(name)))
        exchange = self._bound.get(name)
        if exchange is not None and event.item_id and event.item_id != exchange.upstream_item:
            self._begin_item(exchange, event.item_id)
        return exchange

    def _begin_item(self, exchange: Exchange, upstream_item: str) -> None:
        exchange.upstream_item = upstream_item
        exchange.told_chars = 0
        if exchange.item_id:
            self._mirror.bind(exchange.item_id, upstream_item, base_ms=exchange.audio_ms)

    def audio(self, event: Event) -> None:
        """Raises PeerError."""
        exchange = self._exchange(event)
        if exchange is None:
            return
        data = exchange.odd + events.sound(event)
        whole = len(data) - len(data) % self._coder.sample_bytes
        exchange.odd = data[whole:]
        pcm = self._coder.decode(data[:whole])
        exchange.samples += len(pcm)
        exchange.sounding = True
        self._talk.heard(len(pcm) / base.MODEL_RATE)
        coded = self._coder.kept(data[:whole])
        self._talk.emit(base.AudioDelta(exchange.request.response_id, pcm, coded))
        if exchange.samples > MAX_AUDIO_S * base.MODEL_RATE and exchange.upstream_id:
            self._silence(exchange.upstream_id)
            self._finish(exchange, "max_output_tokens", {})

    def audio_done(self, event: Event) -> None:
        if (exchange := self._exchange(event)) is not None:
            self._message_done(exchange)

    def _message_done(self, exchange: Exchange) -> None:
        exchange.message_done = True
        exchange.sounding = False

    def text(self, event: Event) -> None:
        exchange = self._exchange(event)
        if exchange is not None and event.delta:
            exchange.text += event.delta
            exchange.told_chars += len(event.delta)
            self._talk.emit(base.TextDelta(exchange.request.response_id, event.delta))

    def text_done(self, event: Event) -> None:
        exchange = self._exchange(event)
        said = event.transcript or event.text
        if exchange is not None and said and not exchange.told_chars:
            event.delta = said
            self.text(event)

    def arguments_done(self, event: Event) -> None:
        if event.name:
            item = events.Item(event.item_id, "function_call", name=event.name)
            item.call_id, item.arguments = event.call_id, event.arguments
            self._tool_call(event, item)

    def item_done(self, event: Event) -> None:
        item = event.item
        if item is None:
            return
        if item.type == "function_call":
            self._tool_call(event, item)
        elif (exchange := self._exchange(event)) is not None and item.type == "message":
            self._message_done(exchange)

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

    def done(self, event: Event) -> None:
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

    def refused(self, exchange: Exchange, fault: Fault) -> None:
        """The server does not do what was asked of it."""
        if exchange.upstream_id is not None:
            return  # it was answered by a response that the model began itself
        if exchange in self._asked:
            self._asked.remove(exchange)
        if fault.name == "conversation_already_has_active_response":
            self._waiting.append(exchange)
            if self._active is None and self._retry is None:
                loop = asyncio.get_running_loop()
                self._retry = loop.call_later(RETRY_S, self._ask_next)
            return
        self._fail(exchange, fault.name or "server_error", fault.message or "The model refused.")

"""What clients do to the items of a conversation: create, retrieve, truncate, delete."""

from collections.abc import Callable
from typing import assert_never

from bridge.realtime import client_events, server_events as events
from bridge.realtime.client_events import decode_object
from bridge.realtime.conversation import Conversation
from bridge.realtime.errors import already_shorter, not_truncatable
from bridge.realtime.fields import out_of_range
from bridge.realtime.items import Decode, Item, parse_item
from bridge.realtime.outbox import Outbox
from bridge.realtime.turns import Turns

ItemEvent = (
    client_events.ItemCreate
    | client_events.ItemRetrieve
    | client_events.ItemTruncate
    | client_events.ItemDelete
)


class Editing:
    def __init__(
        self,
        conversation: Conversation,
        turns: Turns,
        outbox: Outbox,
        *,
        new_id: Callable[[str], str],
    ) -> None:
        self._conversation = conversation
        self._turns = turns
        self._outbox = outbox
        self._new_id = new_id

    def receive(
        self, event: ItemEvent, *, decode: Decode, approval: Callable[[Item], None]
    ) -> None:
        """`approval` is given the mcp_approval_response that a client created.

        Raises RequestError.
        """
        match event:
            case client_events.ItemCreate():
                item = self._create(event, decode)
                if item.type == "mcp_approval_response":
                    approval(item)
            case client_events.ItemRetrieve():
                item = self._conversation.find(event.item_id)
                self._outbox.send(events.item_retrieved(item.as_dict(audio=True)))
            case client_events.ItemTruncate():
                self._truncate(event)
            case client_events.ItemDelete():
                item = self._conversation.find(event.item_id)
                self._conversation.delete(item.id)
                self._outbox.send(events.item_deleted(item.id))
            case _:
                assert_never(event)

    def _create(self, event: client_events.ItemCreate, decode: Decode) -> Item:
        found = decode_object(event.item, "item")
        item = parse_item(found, "item", new_id=self._new_id, decode=decode)
        self._conversation.check(item)
        self._turns.add(item, event.previous_item_id)
        return item

    def _truncate(self, event: client_events.ItemTruncate) -> None:
        item = self._conversation.find(event.item_id)
        found = item.part("output_audio")
        if found is None or not found[1].samples:
            raise not_truncatable()
        if event.content_index != found[0]:
            raise out_of_range("content_index", f"expected {found[0]}")
        if event.audio_end_ms < 0:
            raise out_of_range("audio_end_ms", "expected a value of at least 0")
        if event.audio_end_ms > found[1].audio_ms:
            raise already_shorter(found[1].audio_ms, event.audio_end_ms)
        self._conversation.truncate(item, event.audio_end_ms)
        self._outbox.send(events.item_truncated(item.id, event.audio_end_ms))

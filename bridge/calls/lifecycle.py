"""Webhooks of ours: how calls go and end, for those who ask for them by kind."""

from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Literal

from bridge.calls.call import Call
from bridge.calls.webhooks import WebhookEvent, WebhookSender
from bridge.ids import CallId, new_id
from bridge.tasks import TaskOwner

Kind = Literal["ringing", "answered", "failed", "ended", "transfer", "dtmf", "message"]

PATIENCE_S = 600.0


class Lifecycle:
    """Tells `kinds` as `realtime.call.<kind>`, those of one call in their order."""

    def __init__(
        self,
        webhooks: WebhookSender | None,
        kinds: Collection[str],
        *,
        tasks: TaskOwner,
        unix_time: Callable[[], float],
    ) -> None:
        self._webhooks = webhooks
        self._kinds = frozenset(kinds)
        self._tasks = tasks
        self._unix_time = unix_time
        self._waiting: dict[CallId, deque[WebhookEvent]] = {}

    @property
    def reaches_somebody(self) -> bool:
        return self._webhooks is not None

    def tell(self, call: Call, kind: Kind, *, always: bool = False, **fields: Any) -> None:
        """`always`: whether it was asked for or not."""
        if self._webhooks is None or not (always or kind in self._kinds):
            return
        data = {"call_id": call.call_id, **fields}
        event = WebhookEvent(new_id("evt"), f"realtime.call.{kind}", int(self._unix_time()), data)
        if call.call_id in self._waiting:
            self._waiting[call.call_id].append(event)
            return
        self._waiting[call.call_id] = deque([event])
        self._tasks.spawn(self._deliver(call.call_id, self._webhooks), name="webhook")

    async def _deliver(self, call_id: CallId, webhooks: WebhookSender) -> None:
        waiting = self._waiting[call_id]
        while waiting:
            event = waiting[0]
            await webhooks.deliver(event, while_=partial(self._is_worth_telling, event))
            waiting.popleft()
        del self._waiting[call_id]

    def _is_worth_telling(self, event: WebhookEvent) -> bool:
        return self._unix_time() - event.created_at < PATIENCE_S

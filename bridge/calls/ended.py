"""What is kept of calls that are over: the last of them, each as small as its record is."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.calls.call import Call
from bridge.errors import CallNotFound
from bridge.ids import CallId

KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Ended:
    """Enough to answer a repeated command."""

    rejected_with: int | None
    reason: str
    record: bytes
    """JSON: a fifth of what the objects of it take."""


class EndedCalls:
    """The oldest is forgotten first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._calls: OrderedDict[CallId, Ended] = OrderedDict()

    def add(self, call: Call) -> None:
        record = msgspec.json.encode(call.record())
        self._calls[call.call_id] = Ended(call.rejected_with, call.end_reason, record)
        if len(self._calls) > self._kept:
            self._calls.popitem(last=False)

    def get(self, call_id: CallId) -> Ended | None:
        return self._calls.get(call_id)

    def record(self, call_id: CallId) -> dict[str, Any]:
        """Raises CallNotFound."""
        ended = self._calls.get(call_id)
        if ended is None:
            raise CallNotFound
        record: dict[str, Any] = msgspec.json.decode(ended.record)
        return record

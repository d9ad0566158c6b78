"""Events beside OpenAI's: who asked for them, and what such a client may send."""

import re
from collections.abc import Mapping
from typing import Any

from bridge.errors import ConflictError, RequestError
from bridge.realtime.fields import out_of_range
from bridge.realtime.outbox import Outbox
from bridge.realtime.server_events import transport

MAX_DIGITS = 64


class Extras:
    """openai-agents takes every unknown event for an error: nobody gets these unasked."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._clients: dict[str, None] = {}

    def __contains__(self, client: str) -> bool:
        return client in self._clients

    def add(self, client: str) -> None:
        self._clients[client] = None

    def discard(self, client: str) -> None:
        self._clients.pop(client, None)

    def tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        """One event, the same to all; `kind` begins with "transport."."""
        if self._clients:
            self._outbox.send_each(transport(kind, fields), self._clients)


def keys_to_press(value: str) -> str:
    """Raises RequestError unless these are keys of a telephone."""
    if len(value) > MAX_DIGITS:
        raise out_of_range("event", f"expected at most {MAX_DIGITS} keys")
    if not re.fullmatch(r"[0-9A-Da-d*#,]+", value):
        raise out_of_range("event", "expected keys out of 0-9, *, #, A-D and commas for pauses")
    return value.upper()


def too_many_digits() -> RequestError:
    return ConflictError(
        "Earlier keys are still being sent: wait for them.", code="dtmf_busy", param="event"
    )


def digits_unavailable() -> RequestError:
    return ConflictError(
        "Sending DTMF is not available on this call.", code="dtmf_not_available", param="type"
    )

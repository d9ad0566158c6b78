"""The queue of outputs of one session; events get their ids here."""

from collections.abc import Callable, Iterable

from bridge.ids import BASE62
from bridge.realtime.outputs import Output, Send
from bridge.realtime.server_events import Event


class Outbox:
    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._outputs: list[Output] = []
        # Unique, not secret: a counter costs a fifteenth of 21 random characters.
        self._prefix = new_id("event")[:-6]
        self._count = 0

    def send(self, event: Event, to: str | None = None) -> None:
        self._stamp(event)
        self._outputs.append(Send(event, to))

    def send_each(self, event: Event, clients: Iterable[str]) -> None:
        """One event to some clients."""
        self._stamp(event)
        self._outputs += [Send(event, client) for client in clients]

    def _stamp(self, event: Event) -> None:
        self._count = n = self._count + 1
        event["event_id"] = f"{self._prefix}{_six_digits(n)}"

    def put(self, output: Output) -> None:
        self._outputs.append(output)

    def take(self) -> list[Output]:
        taken, self._outputs = self._outputs, []
        return taken


def _six_digits(n: int) -> str:
    digits = ""
    for _ in range(6):
        n, digit = divmod(n, 62)
        digits = BASE62[digit] + digits
    return digits

"""The BYE that ends a call from our side."""

from typing import Literal, Protocol

from bridge.sip.auth import Credentials
from bridge.sip.challenge import Challenged
from bridge.sip.dialog import Dialog
from bridge.sip.host import Host
from bridge.sip.message import Response

MAX_OVERTAKEN = 2


class LeavingCall(Protocol):
    dialog: Dialog
    credentials: Credentials | None

    def farewell(self) -> None:
        """The BYE is answered, or never will be."""
        ...


class Farewell:
    """Our BYE; a challenge to it is answered on calls that we made."""

    def __init__(self, usage: LeavingCall, host: Host, headers: list[tuple[str, str]]) -> None:
        self._usage = usage
        self._host = host
        self._headers = headers
        self._challenged = Challenged(usage.credentials, host.rng)
        self._overtaken = 0

    def send(self, now: float) -> None:
        usage = self._usage
        lines = [*self._headers, *self._challenged.lines]
        self._transaction = self._host.send_request(usage.dialog, "BYE", self, now, lines)

    def response_received(self, response: Response, now: float) -> None:
        if response.status < 200:
            return
        if self._challenged.answer(self._transaction.request, response):
            self.send(now)
        elif response.status == 500 and self._overtaken < MAX_OVERTAKEN:
            # A NOTIFY sent after it has come before it: the old number is refused for ever.
            self._overtaken += 1
            self.send(now)
        else:
            self._usage.farewell()

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        self._usage.farewell()

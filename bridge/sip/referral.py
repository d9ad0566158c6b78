"""REFER out of a call: the transfer we asked for, followed to its end by NOTIFY (RFC 3515).

The REFER makes a subscription. What it brings ends with one final ReferProgress, whatever the
peer leaves out: NOTIFY before the 202, no 202 at all, no last NOTIFY.
"""

import re
from typing import Literal, Protocol

from bridge.sip.auth import Credentials
from bridge.sip.challenge import Challenged
from bridge.sip.client_transaction import ClientTransaction
from bridge.sip.dialog import Dialog
from bridge.sip.events import ReferProgress, UsageId
from bridge.sip.host import Host
from bridge.sip.message import Request, Response
from bridge.sip.reasons import REASONS
from bridge.sip.timers import Timer

LONGEST = 180.0  # seconds without news after which a transfer is taken for lost
_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9][0-9])(?: ([^\r\n]*))?", re.IGNORECASE)


class ReferringCall(Protocol):
    id: UsageId
    dialog: Dialog
    credentials: Credentials | None


def sipfrag_status(body: bytes) -> tuple[int, str] | None:
    """The status line of a message/sipfrag (RFC 3420)."""
    match = _STATUS_LINE.match(body.lstrip())
    if match is None:
        return None
    return int(match[1]), (match[2] or b"").decode("utf-8", "replace")


class Referral:
    """One REFER of ours; `is_over` once its final ReferProgress is out."""

    def __init__(
        self, usage: ReferringCall, host: Host, headers: list[tuple[str, str]], now: float
    ) -> None:
        self.usage = usage
        self.host = host
        self.is_over = False
        self._accepted = False
        self._headers = headers
        self._challenged = Challenged(usage.credentials, host.rng)
        self._last: tuple[int, str] | None = None
        self._transaction = self._send(now)

    def response_received(self, response: Response, now: float) -> None:
        if response.status < 200 or self.is_over:
            return
        if response.status >= 300:
            if self._challenged.answer(self._transaction.request, response):
                self._transaction = self._send(now)
            else:
                self._tell(response.status, response.reason, final=True)
            return
        self._accepted = True
        refused = (response.headers.get("refer-sub") or "").strip().lower() == "false"
        if refused or self._last is None:
            # RFC 4488: nobody will tell how it ends.
            self._tell(response.status, response.reason, final=refused)
        self._wait(now)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        # NOTIFY may have come although the 202 is lost.
        if self._last is None:
            status = 408 if cause == "timeout" else 503
            self._tell(status, REASONS[status], final=True)

    def notified(self, request: Request, now: float) -> None:
        self._accepted = True
        news = sipfrag_status(request.body)
        state = (request.headers.get("subscription-state") or "").partition(";")[0]
        terminated = state.strip().lower() == "terminated"
        if news is not None:
            self._last = news
        status, reason = self._last or (100, REASONS[100])
        if terminated and status < 200:
            # The end of the subscription without an outcome is no success.
            status, reason = 408, REASONS[408]
        self._tell(status, reason, final=status >= 200)
        self._wait(now)

    def timer_fired(self, timer: Timer, now: float) -> None:
        self._tell(408, REASONS[408], final=True)

    def call_ended(self) -> None:
        """With it goes the dialog that NOTIFY would come in; many peers leave on the 202."""
        status = 202 if self._accepted else 487
        self._tell(status, REASONS[status], final=True)

    def end(self) -> None:
        self.is_over = True
        self.host.timers.stop_all(self)

    def _wait(self, now: float) -> None:
        if not self.is_over:
            self.host.timers.start(self, Timer.REFERRAL, now + LONGEST)

    def _tell(self, status: int, reason: str, *, final: bool) -> None:
        if self.is_over:
            return
        if final:
            self.end()
        self.host.emit(ReferProgress(self.usage.id, status, reason, final))

    def _send(self, now: float) -> ClientTransaction:
        lines = [*self._headers, *self._challenged.lines]
        return self.host.send_request(self.usage.dialog, "REFER", self, now, lines)

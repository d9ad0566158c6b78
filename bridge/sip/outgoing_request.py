"""Requests of ours outside of calls, as REGISTER and OPTIONS, and those nobody waits for."""

from collections.abc import Iterable
from typing import Literal

from bridge.sip.auth import Credentials
from bridge.sip.challenge import Challenged
from bridge.sip.client_transaction import ClientTransaction
from bridge.sip.dialog import MAX_FORWARDS
from bridge.sip.events import Flow, RequestDone, RequestId
from bridge.sip.host import Host
from bridge.sip.message import Headers, Request, Response
from bridge.sip.uri import CSeq

_WRITTEN_HERE = frozenset({"via", "cseq", "content-length"})


class Unheeded:
    """User of a request whose answer changes nothing: a CANCEL, for one."""

    def response_received(self, response: Response, now: float) -> None:
        pass

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        pass


class OutgoingRequest:
    """One request and its tries with credentials; ends with RequestDone.

    `headers` may bring From, To, Call-ID and CSeq: a registration keeps them over its refreshes.
    """

    def __init__(
        self,
        request: RequestId,
        template: Request,
        flow: Flow,
        host: Host,
        *,
        credentials: Credentials | None,
    ) -> None:
        """Raises SipError when there is no good CSeq in `template`."""
        self.id = request
        self._template = template
        self._flow = flow
        self._host = host
        self._challenged = Challenged(credentials, host.rng)
        self._number = template.cseq.number

    def send(self, now: float) -> None:
        template, host = self._template, self._host
        lines = [
            ("Via", host.via(self._flow)),
            *(
                (name, value)
                for name, value in template.headers
                if name.lower() not in _WRITTEN_HERE
            ),
            ("CSeq", str(CSeq(self._number, template.method))),
            *self._challenged.lines,
        ]
        request = Request(template.method, template.uri, Headers(lines), template.body)
        self._transaction: ClientTransaction = host.start(request, self._flow, self, now)

    def response_received(self, response: Response, now: float) -> None:
        if response.status < 200:
            return
        if self._challenged.answer(self._transaction.request, response):
            self._number += 1
            self.send(now)
        else:
            self._finish(response)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        self._finish(None)

    def _finish(self, response: Response | None) -> None:
        self._host.emit(RequestDone(self.id, response))


def complete(
    method: str, uri: str, flow: Flow, headers: Iterable[tuple[str, str]], host: Host
) -> Headers:
    """`headers` with whatever a request needs besides and the caller has not written."""
    given = Headers(headers)
    own = host.contact_uri(flow)
    usual = [
        MAX_FORWARDS,
        ("From", f"{own};tag={host.token()}"),
        ("To", f"<{uri}>"),
        ("Call-ID", host.token()),
        ("CSeq", f"{host.rng.randrange(1, 2**16)} {method}"),
        ("User-Agent", host.config.user_agent),
    ]
    missing = [item for item in usual if item[0] not in given]
    return Headers([*missing, *given])

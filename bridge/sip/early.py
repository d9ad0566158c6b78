"""The dialogs of a call of ours that rings: one for each phone, with what it said of its media."""

from dataclasses import dataclass

from bridge.sip.body import SDP, session_description
from bridge.sip.dialog import Dialog
from bridge.sip.events import Reoffer, UsageId
from bridge.sip.host import Host
from bridge.sip.message import Response, make_response
from bridge.sip.outgoing_request import Unheeded
from bridge.sip.reliable import OPTION
from bridge.sip.server_transaction import ServerTransaction


@dataclass(eq=False, slots=True)
class EarlyDialog:
    usage: UsageId
    dialog: Dialog
    host: Host
    description: bytes = b""
    """The peer's last session description."""
    theirs: ServerTransaction | None = None
    """An UPDATE whose offer waits for the owner's answer."""
    _settled: bool = False
    """Our offer has its answer, reliably."""
    _rseq: int | None = None

    def heard(self, response: Response, now: float, *, offered: bool) -> bool:
        """A 101 to 199. False for a copy, or what came before its turn (RFC 3262 section 4).

        Whoever sends a reliable response gets its PRACK, whether we had asked for that or not.
        """
        body = session_description(response)
        rseq = response.rseq
        if OPTION in response.require and rseq is not None:
            if self._rseq is not None and rseq != self._rseq + 1:
                return False
            self._rseq = rseq
            self.dialog.refresh_target(response)
            lines = [("RAck", f"{rseq} {response.cseq.number} INVITE")]
            self.host.send_request(self.dialog, "PRACK", Unheeded(), now, lines)
            self._settled = self._settled or (offered and body is not None)
        self.description = body or self.description
        return True

    def updated(self, transaction: ServerTransaction, now: float, *, waiting: bool) -> None:
        """An UPDATE of the peer (RFC 3311 section 5.2); `waiting`: another one has no answer."""
        request = transaction.request
        offer = session_description(request)
        if offer is None and not request.body:
            self.dialog.refresh_target(request)
            self._accept(transaction, b"", now)
        elif waiting:
            self.refuse_for_now(transaction, now)
        elif not self._settled:
            self.refuse(transaction, 491, now)
        else:
            self.theirs = transaction
            self.host.emit(Reoffer(self.usage, offer or b"", "UPDATE"))

    def answer(self, status: int, body: bytes, now: float) -> None:
        """The owner's answer to the offer that waits."""
        transaction, self.theirs = self.theirs, None
        if transaction is None:
            return
        if status >= 300:
            self.refuse(transaction, status, now)
            return
        self.dialog.refresh_target(transaction.request)
        self.description = session_description(transaction.request) or self.description
        self._accept(transaction, body, now)

    def refuse(self, transaction: ServerTransaction, status: int, now: float) -> None:
        transaction.respond(make_response(transaction.request, status), now)

    def refuse_for_now(self, transaction: ServerTransaction, now: float) -> None:
        wait = [("Retry-After", str(self.host.rng.randint(0, 10)))]
        transaction.respond(make_response(transaction.request, 500, headers=wait), now)

    def _accept(self, transaction: ServerTransaction, body: bytes, now: float) -> None:
        lines = [self.host.contact(self.dialog.flow, transaction.request)]
        if body:
            lines.append(("Content-Type", SDP))
        response = make_response(transaction.request, 200, headers=lines, body=body)
        transaction.respond(response, now)

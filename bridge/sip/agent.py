"""UserAgent: datagrams and `now` in, datagrams, events and one deadline out (RFC 3261).

After every call into it, send what `to_send` gives, take `events`, and come back with
`handle_timer` at `next_timer`. A call ends for its owner with exactly one CallEnded or
CallCancelled; commands on a call that is over do nothing, as the two may cross.

What is refused at once is refused without keeping anything (RFC 3261 section 8.2.7): copies of
such a request get the same answer with the same tag, made from the request and a secret.
"""

import random
from collections.abc import Iterable
from functools import partial
from urllib.parse import quote

from bridge.errors import SipError
from bridge.sip.agent_config import AgentConfig, AgentCounts, AgentStats
from bridge.sip.auth import Credentials
from bridge.sip.call_states import CallState
from bridge.sip.client_transaction import client_key
from bridge.sip.core import AgentCore
from bridge.sip.dialog import Dialog, DialogId
from bridge.sip.events import Flow, IncomingCall, RequestId, UsageId
from bridge.sip.invite import InviteUsage
from bridge.sip.message import Request, Response, make_response, parse_message, stamp_source
from bridge.sip.outgoing import OutgoingCall, OutgoingInvite
from bridge.sip.outgoing_request import OutgoingRequest, complete
from bridge.sip.replaces import Replaces
from bridge.sip.server_transaction import (
    InviteServerTransaction,
    NonInviteServerTransaction,
    ServerKey,
    ServerTransaction,
    merge_key,
    reply_flow,
    server_key,
)
from bridge.sip.transaction import Transaction
from bridge.sip.transfer import Subscription
from bridge.sip.uri import NameAddr, SipUri
from bridge.sip.validation import validate

__all__ = ["AgentConfig", "AgentCounts", "AgentStats", "UserAgent"]


class UserAgent(AgentCore):
    def __init__(self, config: AgentConfig, rng: random.Random) -> None:
        super().__init__(config, rng)
        self.draining = False
        self._usages: dict[UsageId, InviteUsage] = {}
        self._outgoing: dict[UsageId, OutgoingCall] = {}
        self._dialogs: dict[DialogId, InviteUsage | OutgoingCall] = {}
        self._invites: dict[ServerKey, InviteUsage] = {}
        self._subscriptions: dict[UsageId, Subscription] = {}
        self._last_request = 0

    # The wire

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram, or one frame of a stream. Never raises, whatever the bytes."""
        # Responses find their transaction by its branch, and requests with two tags may find a
        # call of ours: no stranger knows those, and whom we call is not always one whom we let
        # call.
        may_be_ours = data.startswith(b"SIP/") or (bool(self._dialogs) and data.count(b"tag=") > 1)
        if not may_be_ours and not self.config.admit(flow):
            self.stats.not_admitted += 1
            return
        request: Request | None = None
        try:
            message = parse_message(data)
            if isinstance(message, Response):
                self._receive_response(message, now)
                return
            stamped = stamp_source(message, flow.remote)
            if may_be_ours and self._usage_of(stamped) is None and not self.config.admit(flow):
                self.stats.not_admitted += 1
                return
            request = stamped
            self._receive_request(request, flow, now)
        except SipError as error:
            self.stats.malformed += 1
            if request is not None and error.status is not None:
                self._refuse(request, flow, error.status, reason=error.message)

    def flow_failed(self, flow: Flow, now: float) -> None:
        """The connection broke, or the network said that nobody is there."""
        for transaction in [*self._clients.values(), *self._servers.values()]:
            if transaction.flow == flow:
                transaction.transport_failed(now)
        for usage in list(self._usages.values()):
            usage.flow_failed(flow, now)
        self.config.flow_closed(flow)

    def flow_in_use(self, flow: Flow) -> bool:
        """A call depends on this connection."""
        return any(usage.dialog.flow == flow for usage in self._usages.values()) or any(
            call.flow == flow for call in self._outgoing.values()
        )

    def drain(self) -> None:
        """No new calls: INVITE and OPTIONS get 503; calls that are up go on."""
        self.draining = True

    @property
    def counts(self) -> AgentCounts:
        return AgentCounts(
            usages=len(self),
            server_transactions=len(self._servers),
            client_transactions=len(self._clients),
            merge_keys=len(self._merging),
            timers=len(self.timers),
        )

    def __len__(self) -> int:
        """Calls that are not over, on the wire included."""
        return len(self._usages) + len(self._outgoing)

    # Commands

    def invite(self, call: OutgoingInvite, now: float) -> UsageId:
        """Make a call. Raises SipError when what it is made of cannot stand in a message."""
        if not call.flows:
            raise ValueError("no flow")
        usage = self.new_usage_id()
        self._outgoing[usage] = OutgoingCall(usage, call, self, now)
        return usage

    def acknowledge_offer(self, usage: UsageId, body: bytes, now: float) -> None:
        """Our answer to an offer that came in OutgoingAnswered or ReofferDone."""
        if call := self._usages.get(usage):
            call.give_answer(body, now)

    def reoffer(self, usage: UsageId, body: bytes, now: float) -> None:
        """A re-INVITE, as soon as the dialog is free for it; ReofferDone tells how it went.

        Without a body the peer makes the offer.
        """
        if call := self._usages.get(usage):
            call.offer("INVITE", body, now)

    def update(self, usage: UsageId, body: bytes, now: float) -> None:
        """An UPDATE (RFC 3311), like `reoffer`; the peer must answer it at once."""
        if call := self._usages.get(usage):
            call.offer("UPDATE", body, now)

    def provisional(self, usage: UsageId, status: int, now: float, *, body: bytes = b"") -> None:
        """101 to 199; with a body it is early media. Sent again every minute (13.3.1.1)."""
        if not 100 < status < 200:
            raise ValueError(status)
        if call := self._usages.get(usage):
            call.provisional(status, body, now)

    def answer(self, usage: UsageId, body: bytes, now: float) -> None:
        if call := self._usages.get(usage):
            call.answer(body, now)

    def reject(
        self,
        usage: UsageId,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """300 to 699. Raises SipError when reason or headers cannot stand in a message."""
        if not 300 <= status < 700:
            raise ValueError(status)
        if call := self._usages.get(usage):
            call.reject(status, now, reason, headers)

    def info(self, usage: UsageId, content_type: str, body: bytes, now: float) -> None:
        """INFO in a call that is up; how it is answered changes nothing."""
        if call := self._usages.get(usage):
            call.info(content_type, body, now)

    def refer(
        self,
        usage: UsageId,
        refer_to: str,
        now: float,
        *,
        referred_by: str = "",
        replaces: UsageId | None = None,
    ) -> None:
        """Ask the peer to call `refer_to`, a URI; ReferProgress tells how it goes.

        With `replaces` the peer takes our place in that other call (RFC 3891). The call that is
        transferred stays up until somebody hangs up. Raises SipError.
        """
        target = SipUri.parse(refer_to)
        embedded = ""
        if replaces is not None and (other := self._usages.get(replaces)):
            embedded = f"?Replaces={quote(other.dialog.replaces, safe='')}"
        headers = [("Refer-To", f"<{target}{embedded}>")]
        if referred_by:
            headers.append(("Referred-By", str(NameAddr.parse(referred_by))))
        if call := self._usages.get(usage):
            call.refer(headers, now)

    def request(
        self,
        method: str,
        uri: str,
        flow: Flow,
        now: float,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        credentials: Credentials | None = None,
    ) -> RequestId:
        """REGISTER, OPTIONS and their like, outside of calls; ends with RequestDone.

        What `headers` lack of From, To, Call-ID, CSeq and Max-Forwards is filled in. Raises
        SipError.
        """
        template = Request(method, uri, complete(method, uri, flow, headers, self), body)
        self._last_request += 1
        request = RequestId(self._last_request)
        outgoing = OutgoingRequest(
            request,
            template,
            flow,
            self,
            credentials=credentials,
        )
        outgoing.send(now)
        return request

    def hangup(self, usage: UsageId, now: float, *, reason_header: str | None = None) -> None:
        """`reason_header` is a value of RFC 3326: `Q.850;cause=16`.

        A call of ours that is not answered yet is cancelled, once that is allowed.
        """
        if call := self._usages.get(usage):
            call.hangup(now, reason_header)
        elif outgoing := self._outgoing.get(usage):
            outgoing.leave("hangup", now)

    def refer_answer(self, usage: UsageId, status: int, now: float) -> None:
        """Answers TransferRequested: 202, after which `notify_refer` is due, or 300 to 699."""
        if not (status in (200, 202) or 300 <= status < 700):
            raise ValueError(status)
        if call := self._usages.get(usage):
            call.transfers.answer(status, now)

    def notify_refer(
        self, usage: UsageId, status: int, reason: str, now: float, *, final: bool
    ) -> None:
        """How the call goes that the peer has asked for; works on when the peer has hung up.

        Nothing is said to a peer that wants no news (RFC 4488).
        """
        if not 100 <= status < 700:
            raise ValueError(status)
        if subscription := self._subscriptions.get(usage):
            subscription.notify(status, reason, now, final=final)

    def reinvite_answer(self, usage: UsageId, status: int, body: bytes, now: float) -> None:
        """Answers the last Reoffer: 200 with a body, or 300 to 699."""
        if not 200 <= status < 700:
            raise ValueError(status)
        if call := self._usages.get(usage):
            call.answer_reoffer(status, body, now)

    # For transactions and usages

    def terminated(self, transaction: Transaction) -> None:
        super().terminated(transaction)
        if isinstance(transaction, ServerTransaction):
            self._invites.pop(transaction.key, None)

    def joined(self, usage: InviteUsage) -> None:
        self._usages[usage.id] = usage
        self._dialogs[usage.dialog.id] = usage

    def early(self, call: OutgoingCall, dialog: Dialog) -> None:
        self._dialogs[dialog.id] = call

    def forget_early(self, dialog: Dialog) -> None:
        self._dialogs.pop(dialog.id, None)

    def forget(self, usage: InviteUsage) -> None:
        self._usages.pop(usage.id, None)
        self._dialogs.pop(usage.dialog.id, None)

    def subscribed(self, subscription: Subscription) -> None:
        self._subscriptions[subscription.usage] = subscription

    def unsubscribed(self, subscription: Subscription) -> None:
        if self._subscriptions.get(subscription.usage) is subscription:
            del self._subscriptions[subscription.usage]

    def forget_outgoing(self, call: OutgoingCall) -> None:
        self._outgoing.pop(call.id, None)
        for dialog in call.early.values():
            self._dialogs.pop(dialog.id, None)

    # Requests and responses

    def _receive_response(self, response: Response, now: float) -> None:
        transaction = self._clients.get(client_key(response))
        if transaction is None:
            self.stats.stray += 1
        else:
            transaction.receive(response, now)

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        transaction = self._servers.get(server_key(request))
        if transaction is not None:
            if transaction.receive(request, now):
                self._acknowledge(request, now)
            return
        if request.method == "ACK":
            self._acknowledge(request, now)
            return
        if request.method == "INVITE" and request.to_tag is None and self._is_closed:
            # Before validation, which costs more than all the rest of a refusal.
            self.stats.overloaded += not self.draining
            self._refuse_for_now(request, flow)
            return
        rejection = validate(
            request,
            allow=self.config.allow,
            supported=self.config.supported,
        )
        if rejection is not None:
            status, reason, headers = rejection.status, rejection.reason, rejection.headers
            if request.method == "SUBSCRIBE" and status == 405:
                # There is no event package here: sounder than to say that nobody may subscribe.
                status, reason = 489, "Bad Event"
            elif request.method == "REFER" and status == 405:
                # A stranger's wish to have us call somebody: declined, not misunderstood.
                status, reason, headers = 603, "Decline", ()
            self._refuse(request, flow, status, reason=reason, headers=headers)
        elif request.method == "CANCEL":
            self._cancel(request, flow, now)
        elif request.to_tag is not None:
            self._receive_in_dialog(request, flow, now)
        else:
            self._receive_new(request, flow, now)

    def _receive_new(self, request: Request, flow: Flow, now: float) -> None:
        if request.method == "INVITE":
            if merge_key(request) in self._merging:
                self._refuse(request, flow, 482)
            elif rejection := self.config.authenticate(request, flow):
                self._refuse(
                    request,
                    flow,
                    rejection.status,
                    reason=rejection.reason,
                    headers=rejection.headers,
                )
            else:
                self._receive_call(request, flow, now)
        elif "replaces" in request.headers:
            self._refuse(request, flow, 400, reason="Replaces Without INVITE")
        elif request.method == "REFER":
            # There is no call to transfer: a stranger would have us call somebody.
            self._refuse(request, flow, 603)
        elif request.method == "REGISTER" and self.config.register is not None:
            self._register(request, flow, self.config.register(request, flow), now)
        elif request.method == "NOTIFY":
            # Served in calls only: nothing is subscribed to outside of them.
            self._refuse(request, flow, 405, headers=[("Allow", ", ".join(self.config.allow))])
        elif request.method != "OPTIONS":
            self._refuse(request, flow, 481)
        elif self.draining:
            self._refuse_for_now(request, flow)
        else:
            self._reply(request, flow, 200, headers=self.capabilities(flow, request))

    def _receive_call(self, request: Request, flow: Flow, now: float) -> None:
        if too_short := self.config.too_short(request):
            self._refuse(request, flow, 422, headers=too_short)
            return
        replaced = None
        if "replaces" in request.headers:
            try:
                replaced = self._replaced_by(request)
            except SipError as error:
                self._refuse(request, flow, error.status or 400)
                return
        cseq = self.rng.randrange(1, 2**16)
        dialog = Dialog.from_request(
            request, reply_flow(request, flow), local_tag=self.token(), cseq=cseq
        )
        transaction = InviteServerTransaction(request, flow, self, now)
        self._servers[transaction.key] = transaction
        transaction.respond(make_response(request, 100), now)
        usage = InviteUsage(self.new_usage_id(), dialog, self, transaction=transaction)
        if replaced is not None:
            usage.takes_over = partial(self._end_replaced, replaced.id)
        self._merging[merge_key(request)] = transaction.key
        self._invites[transaction.key] = usage
        self._usages[usage.id] = usage
        self._dialogs[dialog.id] = usage
        named = None if replaced is None else replaced.id
        self.emit(IncomingCall(usage.id, request, flow, named))

    def _replaced_by(self, request: Request) -> InviteUsage | OutgoingCall:
        """The call whose place a new one is to take (RFC 3891 section 3). Raises SipError."""
        lines = request.headers.get_all("replaces")
        if len(lines) != 1:
            raise SipError("Repeated Replaces", status=400)
        named = Replaces.parse(lines[0])
        found = [self._dialogs[key] for key in named.dialogs if key in self._dialogs]
        if len(found) != 1:
            raise SipError("no such dialog", status=481)
        (replaced,) = found
        if replaced.is_leaving or not self.config.replaces:
            raise SipError("Decline", status=603)
        if isinstance(replaced, InviteUsage):
            if replaced.state is CallState.RINGING:
                # It rings here: there is nobody yet whose place could be taken.
                raise SipError("no such dialog", status=481)
            if named.early_only:
                raise SipError("it is answered already", status=486)
        return replaced

    def _end_replaced(self, usage: UsageId, now: float) -> None:
        if call := self._usages.get(usage) or self._outgoing.get(usage):
            call.leave("replaced", now)

    def _register(self, request: Request, flow: Flow, response: Response, now: float) -> None:
        if response.status == 401:
            # To a stranger: nothing is kept, a copy gets another challenge.
            self.stats.refused += 1
            self.send(reply_flow(request, flow), bytes(response))
            return
        transaction = NonInviteServerTransaction(request, flow, self, now)
        self._servers[transaction.key] = transaction
        transaction.respond(response, now)

    def _receive_in_dialog(self, request: Request, flow: Flow, now: float) -> None:
        usage = self._usage_of(request)
        if usage is None:
            self._refuse(request, flow, 481)
            return
        if self._is_full and request.method != "BYE":
            self.stats.overloaded += 1
            self._refuse_for_now(request, flow)
            return
        transaction: ServerTransaction
        if request.method == "INVITE":
            transaction = InviteServerTransaction(request, flow, self, now)
            transaction.respond(make_response(request, 100), now)
            if isinstance(usage, InviteUsage):
                self._invites[transaction.key] = usage
        else:
            transaction = NonInviteServerTransaction(request, flow, self, now)
        self._servers[transaction.key] = transaction
        usage.receive(transaction, now)

    def _cancel(self, request: Request, flow: Flow, now: float) -> None:
        key = server_key(request, "INVITE")
        invite = self._servers.get(key)
        usage = self._invites.get(key)
        if invite is None or usage is None:
            self._refuse(request, flow, 481)
            return
        transaction = NonInviteServerTransaction(request, flow, self, now)
        self._servers[transaction.key] = transaction
        # The tag of the INVITE's own responses (RFC 3261 section 9.2).
        transaction.respond(make_response(request, 200, to_tag=usage.dialog.local_tag), now)
        usage.cancel(invite, now)

    def _acknowledge(self, request: Request, now: float) -> None:
        usage = self._usage_of(request)
        if isinstance(usage, InviteUsage):
            usage.acknowledge(request, now)
        else:
            self.stats.stray += 1

    def _usage_of(self, request: Request) -> InviteUsage | OutgoingCall | None:
        key = (request.sip_call_id, request.to_tag or "", request.from_tag or "")
        return self._dialogs.get(key)

    @property
    def _is_closed(self) -> bool:
        """To new calls."""
        return self.draining or len(self) >= self.config.max_usages or self._is_full

    @property
    def _is_full(self) -> bool:
        return len(self._servers) >= self.config.max_transactions

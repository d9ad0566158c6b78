"""UserAgent: datagrams and `now` in, datagrams, events and one deadline out (RFC 3261).

After every call into it, send what `to_send` gives, take `events`, and come back with
`handle_timer` at `next_timer`. A call ends for its owner with exactly one CallEnded or
CallCancelled; commands on a call that is over do nothing, as the two may cross.

What is refused at once is refused without keeping anything (RFC 3261 section 8.2.7): copies of
such a request get the same answer with the same tag, made from the request and a secret.
"""

from functools import partial

from bridge.errors import SipError
from bridge.sip.agent_config import AgentConfig, AgentCounts, AgentStats
from bridge.sip.call_states import CallState
from bridge.sip.client_transaction import client_key
from bridge.sip.commands import AgentCommands
from bridge.sip.dialog import Dialog
from bridge.sip.events import Flow, IncomingCall, UsageId
from bridge.sip.invite import InviteUsage
from bridge.sip.message import (
    Rejection,
    Request,
    Response,
    make_response,
    parse_message,
    stamp_source,
)
from bridge.sip.outgoing import OutgoingCall
from bridge.sip.replaces import Replaces
from bridge.sip.server_transaction import (
    InviteServerTransaction,
    NonInviteServerTransaction,
    ServerTransaction,
    merge_key,
    reply_flow,
    server_key,
)
from bridge.sip.validation import validate

__all__ = ["AgentConfig", "AgentCounts", "AgentStats", "UserAgent"]


NO_PEER = "it speaks in a call of another host"


class UserAgent(AgentCommands):
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
            if may_be_ours and not self._may_speak(stamped, flow):
                self.stats.not_admitted += 1
                if stamped.method == "INVITE" and self._usage_of(stamped) is not None:
                    self.config.refused(stamped, flow, Rejection(0, "", why=NO_PEER))
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
            why = "the service is stopping" if self.draining else "there is no room for a call"
            self._refuse_for_now(request, flow, why)
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
                self._refuse(request, flow, 482, why="this call has come by another way already")
            elif rejection := self.config.authenticate(request, flow):
                self._turn_down(request, flow, rejection)
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
            least = self.config.min_session_expires
            why = f"its Session-Expires is below {least} s"
            self._refuse(request, flow, 422, headers=too_short, why=why)
            return
        replaced = None
        if "replaces" in request.headers:
            try:
                replaced = self._replaced_by(request)
            except SipError as error:
                self._refuse(request, flow, error.status or 400, why=f"Replaces: {error.message}")
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
            raise SipError("calls may not be replaced, or this one is ending", status=603)
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
            self._refuse(request, flow, 481, why="it belongs to a call that is not here")
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
        if invite is None or usage is None or not self._is_peer(usage.dialog, flow):
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

    def _may_speak(self, request: Request, flow: Flow) -> bool:
        """A known call is spoken for by its peer; the right tags alone do not make one."""
        call = self._usage_of(request)
        if call is None:
            return self.config.admit(flow)
        return self._is_peer(call.dialog_of(request), flow)

    def _is_peer(self, dialog: Dialog | None, flow: Flow) -> bool:
        config = self.config
        if dialog is not None and dialog.has_peer(flow.remote[0]):
            return True
        return config.admit(flow) if config.trusts is None else config.trusts(flow)

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

"""What the owner of a UserAgent tells it to do, and the calls that its words find.

Commands on a call that is over do nothing: they may have crossed its end.
"""

import random
from collections.abc import Iterable
from urllib.parse import quote

from bridge.sip.agent_config import AgentConfig, AgentCounts
from bridge.sip.auth import Credentials
from bridge.sip.core import AgentCore
from bridge.sip.dialog import Dialog, DialogId
from bridge.sip.events import Flow, RequestId, UsageId
from bridge.sip.invite import InviteUsage
from bridge.sip.message import Request
from bridge.sip.outgoing import OutgoingCall, OutgoingInvite
from bridge.sip.outgoing_request import OutgoingRequest, complete
from bridge.sip.server_transaction import ServerKey, ServerTransaction
from bridge.sip.transaction import Transaction
from bridge.sip.transfer import Subscription
from bridge.sip.uri import NameAddr, SipUri


class AgentCommands(AgentCore):
    def __init__(self, config: AgentConfig, rng: random.Random) -> None:
        super().__init__(config, rng)
        self.draining = False
        self._usages: dict[UsageId, InviteUsage] = {}
        self._outgoing: dict[UsageId, OutgoingCall] = {}
        self._dialogs: dict[DialogId, InviteUsage | OutgoingCall] = {}
        self._invites: dict[ServerKey, InviteUsage] = {}
        self._subscriptions: dict[UsageId, Subscription] = {}
        self._last_request = 0

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

    def unheard_since(self, usage: UsageId) -> float | None:
        """When a call of ours went to the server that it is with now; None once anything has come
        back from there, a 100 is enough."""
        call = self._outgoing.get(usage)
        return None if call is None else call.unheard_since

    def untried(self, usage: UsageId, now: float) -> tuple[Flow, ...]:
        """The flows of a call of ours that are left."""
        call = self._outgoing.get(usage)
        return () if call is None else call.untried(now)

    def flow_of(self, usage: UsageId) -> Flow | None:
        """How the peer of an answered call was reached."""
        call = self._usages.get(usage)
        return None if call is None else call.dialog.flow

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
        """101 to 199; with a body it is early media. Sent again every minute (13.3.1.1).

        On a call that came without an offer the body is our offer, sent if the caller takes
        reliable responses; EarlyAnswer brings the answer.
        """
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
        if call := self._usages.get(usage) or self._outgoing.get(usage):
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

"""Ladder diagrams as tests: a user agent on one side, the lines of a call on the other.

`>>` sends to the agent, `<<` asserts what it sent next, by status or method and in order.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from bridge.sip.agent import AgentConfig, UserAgent
from bridge.sip.events import Event, Flow, IncomingCall, UsageId
from bridge.sip.message import Headers, Request, Response, make_response, parse_message
from bridge.sip.outgoing import OutgoingInvite

UDP = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5062))
TCP = Flow("tcp", ("192.0.2.1", 5060), ("198.51.100.7", 40001), key=7)
OFFER = b"v=0\r\noffer"
ANSWER = b"v=0\r\nanswer"
SDP = ("Content-Type", "application/sdp")

Message = Request | Response


def caller_request(
    method: str = "INVITE",
    *,
    cseq: int = 1,
    branch: str | None = None,
    to_tag: str | None = None,
    from_tag: str = "alice",
    call_id: str = "call-1",
    uri: str = "sip:bot@192.0.2.1",
    headers: Sequence[tuple[str, str]] = (),
    contact: str | None = "<sip:alice@198.51.100.7:5062>",
    via: str = "SIP/2.0/UDP 198.51.100.7:5062;branch={branch};rport",
    body: bytes = b"",
) -> Request:
    branch = f"z9hG4bK-{method}-{cseq}" if branch is None else branch
    to = "<sip:bot@192.0.2.1>" + (f";tag={to_tag}" if to_tag else "")
    lines = [
        ("Via", via.format(branch=branch)),
        ("Max-Forwards", "70"),
        ("From", f'"Alice" <sip:alice@example.com>;tag={from_tag}'),
        ("To", to),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} {method}"),
        *headers,
    ]
    if contact is not None:
        lines.append(("Contact", contact))
    if body and not any(name == "Content-Type" for name, _ in headers):
        lines.append(SDP)
    return Request(method, uri, Headers(lines), body)


class Ladder:
    """One agent, one clock, one caller."""

    def __init__(self, config: AgentConfig | None = None, *, flow: Flow = UDP, seed: int = 1):
        self.agent = UserAgent(config or AgentConfig(), random.Random(seed))
        self.flow = flow
        self.now = 100.0
        self.last: dict[str, Message] = {}
        self.sent: list[tuple[float, Flow, Message]] = []
        self.tag = ""
        self.usage = UsageId(0)

    def __rshift__(self, message: Message | bytes) -> "Ladder":
        self.agent.receive(bytes(message), self.flow, self.now)
        self._collect()
        return self

    def __lshift__(self, expected: int | str | None) -> "Ladder":
        self._collect()
        if expected is None:
            assert [line(message) for _, _, message in self.sent] == []
            return self
        assert self.sent, f"nothing sent, expected {expected}"
        _, _, message = self.sent.pop(0)
        assert line(message) == str(expected)
        self.last[str(expected)] = message
        return self

    def events(self) -> list[Event]:
        return self.agent.events()

    def response(self, status: int) -> Response:
        message = self.last[str(status)]
        assert isinstance(message, Response)
        return message

    def request(self, method: str) -> Request:
        message = self.last[method]
        assert isinstance(message, Request)
        return message

    def wait(self, seconds: float) -> "Ladder":
        """Fire every timer on the way at its own time."""
        self._collect()
        end = self.now + seconds
        while (due := self.agent.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.agent.handle_timer(self.now)
            self._collect()
        self.now = end
        return self

    def gaps(self) -> list[tuple[float, str]]:
        """What was sent since the last look, with seconds since `mark`."""
        out = [(round(at - self._mark, 3), line(message)) for at, _, message in self.sent]
        self.sent.clear()
        return out

    def mark(self) -> "Ladder":
        self._collect()
        self.sent.clear()
        self._mark = self.now
        return self

    def invite(self, **kwargs: object) -> "Ladder":
        """INVITE until the agent has reported it."""
        kwargs.setdefault("body", OFFER)
        _ = self >> caller_request(**kwargs)  # type: ignore[arg-type]
        _ = self << 100
        (call,) = self.events()
        assert isinstance(call, IncomingCall)
        self.usage = call.usage
        return self

    def established(self, **kwargs: object) -> "Ladder":
        """Up to the ACK."""
        self.invite(**kwargs)
        self.agent.answer(self.usage, ANSWER, self.now)
        _ = self << 200
        self.tag = self.response(200).to_tag or ""
        _ = self >> self.ack()
        self.events()
        return self

    def ack(self, *, cseq: int = 1, body: bytes = b"") -> Request:
        tag = self.tag or self.response(200).to_tag
        return caller_request("ACK", cseq=cseq, to_tag=tag, branch=f"z9hG4bK-a{cseq}", body=body)

    def in_dialog(self, method: str, cseq: int = 2, **kwargs: object) -> Request:
        return caller_request(method, cseq=cseq, to_tag=self.tag, **kwargs)  # type: ignore[arg-type]

    def reply(self, method: str, status: int) -> Response:
        """The caller's answer to a request of the agent."""
        return make_response(self.request(method), status)

    def idle(self) -> bool:
        """Nothing is left of any call."""
        counts = self.agent.counts
        return not any(getattr(counts, name) for name in counts.__slots__)

    def _collect(self) -> None:
        for flow, data in self.agent.to_send():
            self.sent.append((self.now, flow, parse_message(data)))


def line(message: Message) -> str:
    return str(message.status) if isinstance(message, Response) else message.method


class CallingLadder(Ladder):
    """The agent calls, the lines are the callee's."""

    def call(self, **kwargs: object) -> "CallingLadder":
        parts: dict[str, object] = {
            "uri": "sip:bob@198.51.100.7:5062",
            "flows": (self.flow,),
            "from_": "Bot <sip:bot@192.0.2.1>",
            "to": "<sip:bob@example.com>",
            "body": OFFER,
        }
        call = OutgoingInvite(**(parts | kwargs))  # type: ignore[arg-type]
        self.usage = self.agent.invite(call, self.now)
        _ = self << "INVITE"
        return self

    def callee(
        self,
        status: int,
        tag: str = "bob",
        *,
        method: str = "INVITE",
        headers: Sequence[tuple[str, str]] = (),
        contact: str | None = "<sip:bob@198.51.100.7:5062>",
        body: bytes = b"",
    ) -> Response:
        lines = [*headers]
        if contact is not None:
            lines.append(("Contact", contact))
        if body:
            lines.append(SDP)
        request = self.request(method)
        return make_response(request, status, to_tag=tag, headers=lines, body=body)

    def answered(self, **kwargs: object) -> "CallingLadder":
        """Up to our ACK."""
        self.call(**kwargs)
        _ = self >> self.callee(200, body=ANSWER) << "ACK"
        self.events()
        return self

    def from_callee(self, method: str, cseq: int = 1, **kwargs: object) -> Request:
        """A request of the callee in the dialog."""
        invite = self.request("INVITE")
        request = caller_request(method, cseq=cseq, **kwargs)  # type: ignore[arg-type]
        headers = request.headers.replaced("From", f"{invite.to};tag=bob")
        headers = headers.replaced("To", str(invite.from_))
        headers = headers.replaced("Call-ID", invite.sip_call_id)
        return replace(request, headers=headers)

"""CPU of one complete call in the user agent alone, both ways: python -m tests.sip.agent_bench

A carrier's INVITE with two Vias and a Record-Route, 100, 180, 200, ACK, BYE, 200, at 100 calls a
second of virtual time, so that some 3200 finished calls wait for their timers as they would; and
the same call made by us. Garbage collection as in the service. Prints the least of many short
runs, since other work on the machine can only add to them.
"""

import gc
import random
import time
from collections.abc import Callable

from bridge.sip.agent import UserAgent
from bridge.sip.agent_config import AgentConfig
from bridge.sip.events import Flow, IncomingCall
from bridge.sip.message import Request, make_response, parse_message
from bridge.sip.outgoing import OutgoingInvite

UDP = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5062))
RATE = 100
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)
INVITE = """INVITE sip:+15551230000@192.0.2.1:5060 SIP/2.0
Record-Route: <sip:198.51.100.7:5062;lr;ftag=a{n}>
Via: SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bKa{n};rport
Via: SIP/2.0/UDP 10.0.0.5:5060;received=203.0.113.9;branch=z9hG4bKb{n};rport=5060
Max-Forwards: 69
From: "Alice" <sip:+15557654321@example.com>;tag=a{n}
To: <sip:+15551230000@192.0.2.1>
Call-ID: c{n}@example.com
CSeq: 1 INVITE
Contact: <sip:alice@198.51.100.7:5062;transport=udp>
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, UPDATE, INFO, REFER, NOTIFY
Supported: timer, replaces, norefersub
User-Agent: Carrier GW 1.2
P-Asserted-Identity: <sip:+15557654321@example.com>
X-Account: 12345
Content-Type: application/sdp
Content-Length: {length}

"""
LATER = """{method} sip:192.0.2.1:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bK{method}{n};rport
Max-Forwards: 70
From: "Alice" <sip:+15557654321@example.com>;tag=a{n}
To: <sip:+15551230000@192.0.2.1>;tag={tag}
Call-ID: c{n}@example.com
CSeq: {cseq} {method}
Content-Length: 0

"""


def wire(template: str, **values: object) -> bytes:
    return template.format(**values).replace("\n", "\r\n").encode()


class Side:
    """A user agent whose own time is counted."""

    def __init__(self) -> None:
        self.agent = UserAgent(AgentConfig(session_expires=1800), random.Random(1))
        self.now = 0.0
        self.spent = 0

    def timed(self, act: Callable[[], object]) -> list[bytes]:
        started = time.process_time_ns()
        act()
        sent = self.agent.to_send()
        self.agent.next_timer()
        self.spent += time.process_time_ns() - started
        return [data for _, data in sent]

    def hear(self, data: bytes) -> list[bytes]:
        return self.timed(lambda: self.agent.receive(data, UDP, self.now))

    def tick(self) -> None:
        self.now += 1 / RATE
        self.timed(lambda: self.agent.handle_timer(self.now))


def taken(side: Side, n: int) -> None:
    """A call that comes in."""
    agent, now = side.agent, side.now
    side.hear(wire(INVITE, n=n, length=len(SDP)) + SDP)
    (call,) = agent.events()
    assert isinstance(call, IncomingCall)
    side.timed(lambda: agent.provisional(call.usage, 180, now))
    (answer,) = side.timed(lambda: agent.answer(call.usage, SDP, now))
    tag = parse_message(answer).to_tag
    side.hear(wire(LATER, method="ACK", n=n, tag=tag, cseq=1))
    (bye,) = side.hear(wire(LATER, method="BYE", n=n, tag=tag, cseq=2))
    assert bye.startswith(b"SIP/2.0 200")
    agent.events()


def made(side: Side, n: int) -> None:
    """A call that goes out."""
    agent, now = side.agent, side.now
    order = OutgoingInvite(
        f"sip:+1555{n}@198.51.100.7:5062",
        (UDP,),
        "<sip:+15551230000@192.0.2.1>",
        f"<sip:+1555{n}@198.51.100.7>",
        body=SDP,
    )
    (data,) = side.timed(lambda: agent.invite(order, now))
    request = parse_message(data)
    assert isinstance(request, Request)
    contact = [("Contact", "<sip:bob@198.51.100.7:5062>")]
    answers = [make_response(request, 100)]
    answers.append(make_response(request, 180, to_tag="b", headers=contact))
    described = [*contact, ("Content-Type", "application/sdp")]
    answers.append(make_response(request, 200, to_tag="b", headers=described, body=SDP))
    for answer in answers:
        side.hear(bytes(answer))
    usage = agent.events()[-1].usage  # type: ignore[union-attr]
    (data,) = side.timed(lambda: agent.hangup(usage, now))
    bye = parse_message(data)
    assert isinstance(bye, Request)
    assert bye.method == "BYE"
    side.hear(bytes(make_response(bye, 200)))
    agent.events()


def least_ms(call: Callable[[Side, int], None], *, runs: int = 60, calls: int = 100) -> float:
    side = Side()
    least = float("inf")
    for run in range(runs):
        side.spent = 0
        for n in range(calls):
            side.tick()
            call(side, run * calls + n)
        if side.now > 32:
            least = min(least, side.spent / calls / 1e6)
    assert len(side.agent) == 0
    return least


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    print(f"taken {least_ms(taken):.3f} ms, made {least_ms(made):.3f} ms of CPU for a call")  # noqa: T201

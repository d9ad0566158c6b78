"""What strangers try on a user agent, and that it costs them more than us.

The limits of sockets are tested in test_transport_tcp.py and test_transport_tls.py, passwords in
test_digest_gate.py, credentials that must not leak in test_invite.py and test_auth.py.
"""

import random
import statistics
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from bridge.sip.agent import AgentConfig, UserAgent
from bridge.sip.auth import Challenge, Credentials, answer
from bridge.sip.digest_gate import DigestGate, GateLimits
from bridge.sip.events import CallCancelled
from bridge.sip.framing import MAX_MESSAGE, StreamFramer
from bridge.sip.message import Headers, Request
from tests.sip.playbook import OFFER, UDP, Ladder, caller_request

STRANGER = replace(UDP, remote=("203.0.113.66", 5060))
IN_DIALOG = ("BYE", "INFO", "INVITE", "UPDATE", "PRACK", "REFER", "NOTIFY")


def scrubbed(ladder: Ladder, status: int) -> bytes:
    """The answer without the tag, which is random, and what it echoes."""
    response = ladder.response(status)
    return bytes(response).replace((response.to_tag or "").encode(), b"")


def test_no_name_is_told_from_another() -> None:
    answers = []
    for user in ("100", "admin", "nobody"):
        ladder = Ladder()
        _ = ladder >> caller_request("OPTIONS", uri=f"sip:{user}@192.0.2.1") << 200
        answers.append(scrubbed(ladder, 200))
    assert len(set(answers)) == 1


def test_nor_by_how_long_a_wrong_password_takes() -> None:
    limits = GateLimits(failures=10_000)
    gate = DigestGate("h", {"100": "secret"}.get, random.Random(1), limits=limits)

    def guess(user: str) -> float:
        found = gate.check(Request("REGISTER", "sip:h", Headers()), "203.0.113.1", 0.0)
        assert found is not None
        challenge = Challenge.parse(found.headers[0][1])
        credentials = Credentials(user, "guess")
        tried = answer(challenge, "REGISTER", "sip:h", b"", credentials, random.Random(2))
        request = Request("REGISTER", "sip:h", Headers([("Authorization", str(tried))]))
        started = time.thread_time()
        refused = gate.check(request, "203.0.113.1", 0.0)
        taken = time.thread_time() - started
        assert refused is not None
        return taken

    known, unknown = ([guess(user) for _ in range(300)] for user in ("100", "101"))
    assert abs(statistics.median(known) - statistics.median(unknown)) < 0.005


def test_a_flood_of_calls_is_refused_without_a_trace() -> None:
    ladder = Ladder(AgentConfig(max_usages=1)).established()
    ladder.mark()
    counts, tags = ladder.agent.counts, set()
    for number in range(2000):
        invite = caller_request(call_id=f"x{number}", branch=f"z9hG4bKx{number}", body=OFFER)
        _ = ladder >> invite << 503
        assert ladder.response(503).retry_after is not None
        tags.add(ladder.response(503).to_tag)
    assert ladder.agent.counts == counts
    assert ladder.agent.stats.overloaded == 2000
    assert ladder.events() == []
    assert len(tags) == 2000


def answers(data: bytes) -> list[bytes]:
    """The statuses sent for it; nothing else must come of it."""
    agent = UserAgent(AgentConfig(), random.Random(1))
    agent.receive(data, UDP, 0.0)
    assert agent.events() == []
    assert not any(getattr(agent.counts, name) for name in agent.counts.__slots__)
    return [sent.split(b" ")[1] for _, sent in agent.to_send()]


def lines(name: str, value: str, count: int) -> list[tuple[str, str]]:
    return [(name, value)] * count


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (lines("X", "y", 257), 513),
        (lines("X", "y" * 8192, 1), 513),
        (lines("X", "y" * 8000, 5), 513),
        (lines("Via", "SIP/2.0/UDP 203.0.113.1;branch=z9hG4bK1", 1000), 513),
        (lines("Via", ", ".join(["SIP/2.0/UDP h"] * 1000), 1), 513),
        (lines("Via", "SIP/2.0/UDP h", 70), 513),
        (lines("Supported", "a," * 1000, 1), 513),
        (lines("Route", "<sip:a;lr>, " * 1300, 1), 513),
        (lines("Content-Length", "-1", 1), 400),
        (lines("Expires", "4294967296", 1), 400),
        (lines("Max-Forwards", "256", 1), 400),
    ],
)
def test_too_much_of_anything(headers: list[tuple[str, str]], status: int) -> None:
    request = bytes(caller_request("OPTIONS"))
    more = "".join(f"\r\n{name}: {value}" for name, value in headers).encode()
    drop = headers[0][0].encode() + b": "
    kept = [
        line
        for line in request.split(b"\r\n\r\n")[0].split(b"\r\n")
        if drop == b"Via: " or not line.startswith(drop)
    ]
    assert answers(b"\r\n".join(kept) + more + b"\r\n\r\n") == [b"%d" % status]


def test_too_much_for_an_answer() -> None:
    ladder = Ladder()
    _ = ladder >> bytes(caller_request("OPTIONS", body=b"x" * MAX_MESSAGE)) << None
    assert ladder.agent.stats.malformed == 1
    assert ladder.idle()
    framer = StreamFramer()
    framer.feed(bytes(caller_request("OPTIONS", body=b"x" * MAX_MESSAGE)))
    assert framer.broken


def test_a_second_message_in_a_datagram_is_not_read() -> None:
    ladder = Ladder()
    second = caller_request("BYE", to_tag="guess", branch="z9hG4bK2")
    _ = ladder >> bytes(caller_request("OPTIONS")) + bytes(second) << 200 << None


@settings(max_examples=100, deadline=None)
@given(st.integers(65536) | st.integers(max_value=0), st.sampled_from(["via", "contact", "uri"]))
def test_ports_that_are_none(number: int, where: str) -> None:
    port = str(number)
    data = caller_request(
        body=OFFER,
        via=f"SIP/2.0/UDP 198.51.100.7:{port if where == 'via' else 5062};branch=z9hG4bK1",
        contact=f"<sip:alice@198.51.100.7:{port if where == 'contact' else 5062}>",
        uri=f"sip:bot@192.0.2.1:{port if where == 'uri' else 5060}",
    )
    # A port of zero is no error in a URI, but in a Via, by which an answer would go.
    if number == 0 and where != "via":
        return
    unreadable = where == "via" and not 0 <= number < 2**31
    assert answers(bytes(data)) == ([] if unreadable else [b"400"])


@settings(max_examples=100, deadline=None)
@given(st.integers(2**31) | st.integers(max_value=-1))
def test_sequence_numbers_that_are_none(number: int) -> None:
    request = caller_request(cseq=number, branch="z9hG4bK1", body=OFFER)
    assert answers(bytes(request)) == [b"400"]


@pytest.mark.parametrize("method", IN_DIALOG)
def test_guessed_ids_find_nothing_and_leave_nothing(method: str) -> None:
    ladder = Ladder(AgentConfig(transfers=True, replaces=True)).established()
    ladder.wait(40)
    ladder.mark()
    counts = ladder.agent.counts
    for number in range(20):
        guess = f"{random.Random(number).getrandbits(128):032x}"
        request = caller_request(
            method, cseq=2, to_tag=guess, branch=f"z9hG4bK{guess}", headers=refer(method)
        )
        _ = ladder >> request << 481
    assert ladder.agent.counts == counts
    assert len(ladder.agent) == 1


def refer(method: str) -> list[tuple[str, str]]:
    return [("Refer-To", "<sip:a@b>")] if method == "REFER" else []


def test_tags_cannot_be_guessed() -> None:
    ladder = Ladder()
    tags = set()
    for number in range(200):
        invite = caller_request(call_id=f"c{number}", branch=f"z9hG4bKc{number}", body=OFFER)
        _ = ladder >> invite << 100
        (call,) = ladder.events()
        ladder.agent.answer(call.usage, b"v=0\r\n", ladder.now)  # type: ignore[union-attr]
        _ = ladder << 200
        tags.add(int(ladder.response(200).to_tag or "", 16))
    assert len(tags) == 200
    # 128 bits: every one of them is set in some tags, and not in all.
    ones, all_ones = 0, -1
    for tag in tags:
        ones, all_ones = ones | tag, all_ones & tag
    assert ones == 2**128 - 1
    assert all_ones == 0


def trusting() -> AgentConfig:
    """Whoever wants to may call, and no host speaks for another."""
    return AgentConfig(trusts=lambda flow: False, transfers=True)


@pytest.mark.parametrize("method", IN_DIALOG)
def test_right_ids_from_elsewhere(method: str) -> None:
    ladder = Ladder(trusting()).established()
    ladder.wait(40)
    ladder.mark()
    counts = ladder.agent.counts
    ladder.flow = STRANGER
    _ = ladder >> ladder.in_dialog(method, headers=refer(method), body=b"") << None
    assert ladder.agent.counts == counts
    assert ladder.agent.stats.not_admitted == 1
    assert ladder.events() == []


def test_an_ack_from_elsewhere() -> None:
    ladder = Ladder(trusting()).invite()
    ladder.agent.answer(ladder.usage, b"v=0\r\n", ladder.now)
    _ = ladder << 200
    ladder.flow = STRANGER
    _ = ladder >> ladder.ack()
    assert ladder.events() == []
    ladder.flow = UDP
    _ = ladder >> ladder.ack()
    assert len(ladder.events()) == 1


def test_a_cancel_from_elsewhere() -> None:
    ladder = Ladder(trusting()).invite(branch="z9hG4bKi")
    cancel = caller_request("CANCEL", branch="z9hG4bKi", contact=None)
    ladder.flow = STRANGER
    _ = ladder >> cancel << 481
    assert ladder.events() == []
    ladder.flow = UDP
    _ = ladder >> cancel << 200 << 487
    assert [type(event) for event in ladder.events()] == [CallCancelled]

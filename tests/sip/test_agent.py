import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from bridge.sip.agent import AgentConfig, UserAgent
from bridge.sip.agent_config import ALLOW
from bridge.sip.events import (
    CallCancelled,
    CallEnded,
    Event,
    Flow,
    IncomingCall,
    Reoffer,
    UsageId,
)
from bridge.sip.message import Headers, Rejection, Request
from tests.sip.caller import Caller, Network
from tests.sip.playbook import ANSWER, OFFER, TCP, UDP, Ladder, caller_request

DATA = Path(__file__).parents[1] / "data" / "sip" / "rfc4475"


def test_invite_gets_100_at_once_and_is_one_call() -> None:
    ladder = Ladder().invite()
    _ = ladder >> caller_request(body=OFFER) << 100
    ladder.agent.provisional(ladder.usage, 183, ladder.now, body=ANSWER)
    _ = ladder << 183 >> caller_request(body=OFFER) << 183
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200 >> caller_request(body=OFFER) << None
    _ = ladder >> ladder.ack() >> caller_request(body=OFFER) << None
    assert not any(isinstance(event, IncomingCall) for event in ladder.events())
    assert len(ladder.agent) == 1


def test_a_call_from_invite_to_bye_leaves_nothing() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INVITE", body=OFFER) << 100
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    _ = ladder << 200 >> ladder.ack(cseq=2)
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE" >> ladder.reply("BYE", 200)
    assert len(ladder.agent) == 0
    assert not ladder.idle()
    ladder.wait(33)
    assert ladder.idle()
    assert ladder.agent.next_timer() is None


def test_ack_with_the_branch_of_its_invite() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    tag = ladder.response(200).to_tag
    _ = ladder >> caller_request("ACK", branch="z9hG4bK-INVITE-1", to_tag=tag)
    assert len(ladder.events()) == 1


def test_cancel() -> None:
    ladder = Ladder().invite()
    _ = ladder >> caller_request("CANCEL", branch="z9hG4bK-INVITE-1") << 200 << 487
    assert ladder.events() == [CallCancelled(ladder.usage)]


def test_statuses_of_commands() -> None:
    ladder = Ladder().invite()
    agent, usage, now = ladder.agent, ladder.usage, ladder.now
    for status in (100, 200):
        with pytest.raises(ValueError, match=str(status)):
            agent.provisional(usage, status, now)
    for status in (200, 700):
        with pytest.raises(ValueError, match=str(status)):
            agent.reject(usage, status, now)
    with pytest.raises(ValueError, match="183"):
        agent.reinvite_answer(usage, 183, b"", now)
    agent.reject(usage, 404, now, reason="Nobody Here")
    _ = ladder << 404
    assert ladder.response(404).reason == "Nobody Here"


def test_failed_flow() -> None:
    ladder = Ladder(flow=TCP).invite()
    assert ladder.agent.flow_in_use(TCP)
    ladder.agent.flow_failed(TCP, ladder.now)
    assert ladder.events() == [CallEnded(ladder.usage, "transport")]
    assert not ladder.agent.flow_in_use(TCP)


def test_invite_of_an_rfc_2543_phone() -> None:
    ladder = Ladder().invite(branch="1")
    _ = ladder >> caller_request(branch="1", body=OFFER) << 100
    ladder.agent.reject(ladder.usage, 486, ladder.now)
    _ = ladder << 486 >> caller_request("ACK", branch="1", to_tag="x")
    ladder.mark().wait(6)
    assert ladder.gaps() == []
    assert ladder.idle()


def test_merged_request() -> None:
    ladder = Ladder().invite()
    _ = ladder >> caller_request(branch="z9hG4bKfork", body=OFFER) << 482
    assert ladder.events() == []
    ladder.agent.reject(ladder.usage, 486, ladder.now)
    ladder.wait(40)
    assert ladder.idle()


@pytest.mark.parametrize("method", ["BYE", "INFO", "UPDATE", "INVITE", "OPTIONS"])
def test_unknown_dialog(method: str) -> None:
    ladder = Ladder()
    _ = ladder >> caller_request(method, to_tag="guess") << 481
    assert ladder.idle()


@pytest.mark.parametrize("method", ["BYE", "INFO", "UPDATE", "CANCEL"])
def test_request_without_a_match(method: str) -> None:
    ladder = Ladder()
    _ = ladder >> caller_request(method) << 481
    assert ladder.idle()


def test_wrong_tag_of_a_known_call() -> None:
    ladder = Ladder().established()
    _ = ladder >> caller_request("BYE", cseq=2, to_tag="guess") << 481
    _ = ladder >> ladder.in_dialog("BYE", from_tag="mallory") << 481
    assert len(ladder.agent) == 1


def test_ack_without_match_is_silent() -> None:
    ladder = Ladder()
    _ = ladder >> caller_request("ACK") >> caller_request("ACK", to_tag="guess") << None
    _ = ladder >> replace(caller_request("ACK"), headers=Headers([("Via", "SIP/2.0/UDP a")]))
    _ = ladder << None
    assert ladder.agent.stats.stray == 2


def test_options() -> None:
    ladder = Ladder()
    _ = ladder >> caller_request("OPTIONS", contact=None) << 200
    ok = ladder.response(200)
    assert ok.allow == list(ALLOW)
    assert ok.headers.get("accept") == "application/sdp, multipart/mixed"
    assert "supported" in ok.headers
    assert ok.headers.get("contact") == "<sip:192.0.2.1:5060>"
    tag = ok.to_tag
    _ = ladder >> caller_request("OPTIONS", contact=None) << 200
    assert ladder.response(200).to_tag == tag
    _ = ladder >> caller_request("OPTIONS", cseq=2) << 200
    assert ladder.response(200).to_tag != tag
    assert ladder.idle()


def test_draining() -> None:
    ladder = Ladder().established()
    ladder.agent.drain()
    _ = ladder >> caller_request("OPTIONS", call_id="call-2") << 503
    _ = ladder >> caller_request(call_id="call-2", branch="z9hG4bKx", body=OFFER) << 503
    assert ladder.response(503).retry_after == 5
    _ = ladder >> ladder.in_dialog("OPTIONS") << 200
    _ = ladder >> ladder.in_dialog("BYE", 3) << 200


@pytest.mark.parametrize("method", ["MESSAGE", "REGISTER", "PUBLISH", "NOTIFY", "FOO"])
def test_methods_not_served(method: str) -> None:
    ladder = Ladder()
    _ = ladder >> caller_request(method) << 405
    assert "INVITE" in ladder.response(405).allow


def test_transfers_by_the_peer_are_declined() -> None:
    refer_to = [("Refer-To", "<sip:premium@example.com>")]
    _ = Ladder() >> caller_request("REFER", headers=refer_to) << 603
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("REFER", headers=refer_to) << 603
    replaces = f"call-1;to-tag={ladder.tag};from-tag=alice"
    taking = caller_request(
        call_id="other", branch="z9hG4bKo", headers=[("Replaces", replaces)], body=OFFER
    )
    _ = ladder >> taking << 603
    assert ladder.events() == []
    assert len(ladder.agent) == 1


def test_calls_are_authenticated_when_they_are_new() -> None:
    asked: list[str] = []

    def authenticate(request: Request, flow: Flow) -> Rejection | None:
        asked.append(request.method)
        if "authorization" in request.headers:
            return None
        return Rejection(401, "Unauthorized", (("WWW-Authenticate", "Digest …"),))

    ladder = Ladder(AgentConfig(authenticate=authenticate))
    _ = ladder >> caller_request(body=OFFER) << 401
    assert ladder.response(401).headers.get("www-authenticate") == "Digest …"
    assert ladder.idle()
    ladder.established(cseq=2, headers=[("Authorization", "Digest …")])
    _ = ladder >> ladder.in_dialog("INVITE", 3, body=OFFER) << 100
    assert asked == ["INVITE", "INVITE"]


def test_subscribe_names_no_event_package() -> None:
    _ = Ladder() >> caller_request("SUBSCRIBE") << 489


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ([("Require", "foo, bar")], 420, ("unsupported", "foo, bar")),
        ([("Content-Type", "text/plain")], 415, ("accept", "application/sdp, multipart/mixed")),
    ],
)
def test_what_validation_demands(
    headers: list[tuple[str, str]], status: int, told: tuple[str, str]
) -> None:
    ladder = Ladder()
    _ = ladder >> caller_request(headers=headers, body=OFFER) << status
    assert ladder.response(status).headers.get(told[0]) == told[1]
    # Nothing is kept, so a copy is answered again, with the same tag.
    tag = ladder.response(status).to_tag
    _ = ladder >> caller_request(headers=headers, body=OFFER) << status
    assert ladder.response(status).to_tag == tag
    assert ladder.idle()


def test_invite_without_contact() -> None:
    ladder = Ladder()
    _ = ladder >> caller_request(contact=None, body=OFFER) << 400
    _ = ladder >> caller_request(headers=[("Record-Route", "<<")], body=OFFER) << 400
    assert ladder.agent.stats.malformed == 2
    assert ladder.idle()


def test_max_forwards_zero_is_for_us() -> None:
    request = caller_request("OPTIONS")
    request = replace(request, headers=request.headers.replaced("max-forwards", "0"))
    _ = Ladder() >> request << 200


def test_received_and_rport() -> None:
    via = "SIP/2.0/UDP 10.0.0.5:5060;rport;branch={branch}, SIP/2.0/TCP 10.0.0.6"
    ladder = Ladder()
    _ = ladder >> caller_request("OPTIONS", via=via)
    ((_, flow, message),) = ladder.sent
    assert flow == UDP
    top, below = message.vias
    assert (top.received, top.rport) == ("198.51.100.7", 5062)
    assert str(below) == "SIP/2.0/TCP 10.0.0.6"


def test_answers_go_by_via_without_rport() -> None:
    ladder = Ladder()
    _ = ladder >> caller_request("OPTIONS", via="SIP/2.0/UDP 10.0.0.5:5090;branch={branch}")
    ((_, flow, message),) = ladder.sent
    assert flow.remote == ("198.51.100.7", 5090)
    assert message.top_via.received == "198.51.100.7"


@pytest.mark.parametrize(
    ("flow", "uri", "contact"),
    [
        (UDP, "sip:bot@example.com", "<sip:203.0.113.5:5070>"),
        (TCP, "sip:bot@example.com", "<sip:bot.example:5071;transport=tcp>"),
        (replace(TCP, transport="tls"), "sips:bot@example.com", "<sips:192.0.2.1:5060>"),
        (
            replace(TCP, transport="wss", local=("2001:db8::1", 443)),
            "sip:bot@example.com",
            "<sip:[2001:db8::1]:443;transport=ws>",
        ),
    ],
)
def test_contact(flow: Flow, uri: str, contact: str) -> None:
    contacts = {"udp": ("203.0.113.5", 5070), "tcp": ("bot.example", 5071)}
    ladder = Ladder(AgentConfig(contacts=contacts), flow=flow).invite(uri=uri)
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).headers.get("contact") == contact


def test_record_route_is_echoed_and_followed() -> None:
    routes = [("Record-Route", "<sip:203.0.113.1;lr;r2=on>, <sip:203.0.113.2;lr>")]
    ladder = Ladder().invite(headers=routes)
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 180 << 200
    for status in (180, 200):
        assert ladder.response(status).headers.get_all("record-route") == [routes[0][1]]
    ladder.tag = ladder.response(200).to_tag or ""
    _ = ladder >> ladder.ack()
    ladder.agent.hangup(ladder.usage, ladder.now)
    ((_, flow, message),) = ladder.wait(0).sent
    assert flow.remote == ("203.0.113.1", 5060)
    assert [str(route) for route in message.routes] == [
        "<sip:203.0.113.1;lr;r2=on>",
        "<sip:203.0.113.2;lr>",
    ]


def test_strangers_meet_silence() -> None:
    ladder = Ladder(AgentConfig(admit=lambda flow: flow.remote[0] == "203.0.113.1"))
    _ = ladder >> caller_request("OPTIONS") >> caller_request(body=OFFER) >> b"junk" << None
    assert ladder.agent.stats.not_admitted == 3
    assert ladder.idle()


def test_too_many_calls() -> None:
    ladder = Ladder(AgentConfig(max_usages=1, retry_after_s=9)).established()
    second = caller_request(call_id="call-2", branch="z9hG4bKx", body=OFFER)
    _ = ladder >> second << 503
    assert ladder.response(503).retry_after == 9
    assert ladder.agent.stats.overloaded == 1
    _ = ladder >> ladder.in_dialog("BYE") << 200
    _ = ladder >> second << 100


def test_too_many_transactions() -> None:
    ladder = Ladder(AgentConfig(max_transactions=2)).established()
    _ = ladder >> ladder.in_dialog("INFO") << 200
    _ = ladder >> ladder.in_dialog("INFO", 3) << 503
    _ = ladder >> caller_request(call_id="call-2", branch="z9hG4bKx", body=OFFER) << 503
    _ = ladder >> ladder.in_dialog("BYE", 4) << 200


def test_flood_of_junk_keeps_nothing() -> None:
    ladder = Ladder(AgentConfig(max_usages=1)).established()
    counts = ladder.agent.counts
    for number in range(500):
        _ = ladder >> caller_request(call_id=f"x{number}", branch=f"z9hG4bKx{number}", body=OFFER)
        _ = ladder >> caller_request("REGISTER", call_id=f"y{number}")
        _ = ladder >> b"\x00\x01" * number
    assert ladder.agent.counts == counts


def test_stray_response() -> None:
    ladder = Ladder()
    _ = ladder >> b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>\r\n" + (
        b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 BYE\r\n\r\n"
    )
    _ = ladder << None
    assert ladder.agent.stats.stray == 1


# What RFC 4475 asks of a UAS without REGISTER and MESSAGE; None is silence.
RFC4475: dict[str, int | None] = {
    "badaspec": 200, "badbranch": 200, "baddate": 100, "baddn": 400, "badinv01": 400,
    "badvers": 505, "bcast": None, "bext01": 420, "bigcode": None, "clerr": 400,
    "cparam01": 405, "cparam02": 405, "dblreq": 405, "esc01": 100, "esc02": 405,
    "escnull": 405, "escruri": 400, "insuf": 400, "intmeth": 405, "inv2543": 100,
    "invut": 415, "longreq": 100, "ltgtruri": 400, "lwsdisp": 200, "lwsruri": 400,
    "lwsstart": 400, "mcl01": 400, "mismatch01": 400, "mismatch02": 400, "mpart01": 405,
    "multi01": 400, "ncl": 400, "noreason": None, "novelsc": 416, "quotbal": 400,
    "regaut01": 405, "regbadct": 400, "regescrt": 405, "scalar02": 400, "scalarlg": None,
    "sdp01": 406, "semiuri": 200, "transports": 200, "trws": 400, "unkscm": 416,
    "unksm2": 405, "unreason": None, "wsinv": 481, "zeromf": 200,
}  # fmt: skip


def test_rfc4475_is_complete() -> None:
    assert set(RFC4475) == {path.stem for path in DATA.glob("*.dat")}


@pytest.mark.parametrize("name", RFC4475)
def test_rfc4475(name: str) -> None:
    agent = UserAgent(AgentConfig(), random.Random(1))
    agent.receive((DATA / f"{name}.dat").read_bytes(), UDP, 0.0)
    starts = [data.split(b" ", 2)[:2] for _, data in agent.to_send()]
    status = RFC4475[name]
    assert starts == ([] if status is None else [[b"SIP/2.0", str(status).encode()]])
    assert len(agent.events()) == (status == 100)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_raise(data: st.DataObject) -> None:
    ladder = Ladder().established()
    seeds = [
        bytes(caller_request(body=OFFER)),
        bytes(ladder.in_dialog("INVITE", body=OFFER)),
        bytes(ladder.in_dialog("INFO")),
        bytes(ladder.ack()),
        (DATA / "wsinv.dat").read_bytes(),
    ]
    text = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 8))
        text[at : at + cut] = data.draw(st.binary(max_size=6))
    ladder.agent.receive(bytes(text), UDP, ladder.now)
    ladder.agent.receive(data.draw(st.binary(max_size=60)), UDP, ladder.now)
    ladder.agent.to_send()
    for event in ladder.events():
        if isinstance(event, IncomingCall):
            ladder.agent.answer(event.usage, ANSWER, ladder.now)
    ladder.wait(200)


class Callee:
    """Answers what the scenario says, as the owner of the agent would."""

    def __init__(self, scenario: "Scenario", rng: random.Random) -> None:
        self.agent = scenario.agent
        self.network = scenario.network
        self.rng = rng
        self.events: list[Event] = []
        self.usage = UsageId(0)

    def take(self) -> None:
        for event in self.agent.events():
            self.events.append(event)
            if isinstance(event, IncomingCall):
                self.usage = event.usage
                self._plan()
            elif isinstance(event, Reoffer):
                status = self.rng.choice((200, 488))
                body = ANSWER if status == 200 else b""
                when = self.network.now + self.rng.random()
                self.network.at(when, lambda s=status, b=body: self._reanswer(s, b))  # type: ignore[misc]

    def _reanswer(self, status: int, body: bytes) -> None:
        self.agent.reinvite_answer(self.usage, status, body, self.network.now)

    def _plan(self) -> None:
        agent, network, usage, now = self.agent, self.network, self.usage, self.network.now
        rings = self.rng.random() * 6
        network.at(now + rings / 2, lambda: agent.provisional(usage, 180, network.now))
        if self.rng.random() < 0.75:
            network.at(now + rings, lambda: agent.answer(usage, ANSWER, network.now))
        else:
            network.at(now + rings, lambda: agent.reject(usage, 486, network.now))
        if self.rng.random() < 0.4:
            leaves = rings + self.rng.random() * 20
            network.at(now + leaves, lambda: agent.hangup(usage, network.now))


class Scenario:
    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.rng = rng
        delay = rng.choice((0.02, 0.3, 1.5))
        self.network = Network(rng, loss=rng.random() * 0.2, dup=rng.random() * 0.2, delay=delay)
        self.agent = UserAgent(AgentConfig(), random.Random(seed))
        self.callee = Callee(self, rng)
        self.caller = Caller()
        network, caller = self.network, self.caller
        network.at(0.0, lambda: caller.call(network.now))
        for action in (caller.info, caller.reoffer, caller.hangup):
            if rng.random() < 0.5:
                network.at(rng.random() * 25, lambda do=action: do(network.now))  # type: ignore[misc]

    def run(self, until: float) -> None:
        network, agent, caller = self.network, self.agent, self.caller
        while True:
            dues = (network.next(), agent.next_timer(), caller.timers.next_deadline())
            due = min((at for at in dues if at is not None), default=until)
            if due >= until:
                return
            network.step(due)
            agent.handle_timer(due)
            caller.timers.fire(due)
            self.callee.take()
            for flow, data in agent.to_send():
                assert flow == UDP
                network.carry(lambda data: caller.receive(data, network.now), data)
            for data in caller.outbox:
                network.carry(lambda data: agent.receive(data, UDP, network.now), data)
            caller.outbox.clear()


@pytest.mark.parametrize("block", range(10))
def test_both_ends_agree_whatever_the_network_does(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        scenario = Scenario(seed)
        scenario.run(200)
        events = scenario.callee.events
        calls = [event for event in events if isinstance(event, IncomingCall)]
        ends = [event for event in events if isinstance(event, CallEnded | CallCancelled)]
        assert len(calls) <= 1, seed
        assert len(ends) <= len(calls), seed
        up = len(calls) == 1 and not ends
        assert up == (scenario.caller.state == "up"), seed
        assert len(scenario.agent) == up, seed
        if up:
            scenario.agent.hangup(scenario.callee.usage, 200)
            scenario.run(300)
            assert scenario.caller.state == "over", seed
        assert scenario.caller.idle(), seed
        counts = scenario.agent.counts
        assert not any(getattr(counts, name) for name in counts.__slots__), (seed, counts)

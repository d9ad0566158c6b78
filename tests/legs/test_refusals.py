"""Each INVITE that is turned away leaves one line, which says why and tells no secret."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.calls.trunks import Trunk
from bridge.errors import OverloadedError
from bridge.legs.refusals import BURST, Caller, RefusalLog, compare_media, refusal
from bridge.sip.events import Flow
from bridge.sip.message import Rejection, Request, parse_message
from tests import virtual
from tests.legs.exchange import Exchange, Handset, play, sdp
from tests.ports import HOST
from tests.sip.playbook import caller_request

KEY = "A" * 40
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n".encode()
STRANGER = Caller("", ("compared 192.0.2.9 with carrier 198.51.100.0/24: no",))


def invited(flow: str = "udp") -> tuple[Request, Flow]:
    request = parse_message(bytes(caller_request("INVITE")))
    assert isinstance(request, Request)
    return request, Flow(flow, ("192.0.2.1", 5060), ("192.0.2.9", 5060))


def refused(
    caplog: pytest.LogCaptureFixture,
    scenario: Callable[[Exchange], Awaitable[None]],
    **exchange: Any,
) -> dict[str, Any]:
    """The one line that `scenario` leaves."""
    caplog.set_level(logging.INFO, "bridge")
    play(scenario, **exchange)
    (line,) = [r for r in caplog.records if r.getMessage().startswith("INVITE")]
    said = str(vars(line))
    assert KEY not in said
    assert "secret" not in said
    return {**vars(line), "said": line.getMessage()}


def offers(body: Callable[[Handset], bytes], status: int) -> Callable[[Exchange], Awaitable[None]]:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=body(handset))
        await handset.response(status)
        handset.send("ACK")
        assert exchange.legs == []

    return scenario


CARRIER = Trunk("carrier", addresses=(HOST,), codecs=("PCMA",))


def test_no_codec_in_common(caplog: pytest.LogCaptureFixture) -> None:
    line = refused(
        caplog, offers(lambda h: sdp(h.rtp_port, formats="0 101"), 488), trunks=[CARRIER]
    )
    assert (line["status"], line["matched"]) == (488, "sip.trunks.carrier")
    assert line["compared"] == f"compared {HOST} with carrier {HOST}/32: yes"
    assert line["offer"] == (
        "offered: audio by RTP/AVP (PCMU/8000 telephone-event/8000); taken: PCMA, SRTP off"
    )
    assert line["change"].startswith("sip.trunks.carrier.codecs")
    assert line["sip_call_id"].startswith("call-")
    assert line["levelname"] == "WARNING"


def test_the_other_ip_version(caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = b"c=IN IP6 fd00::2"

    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        offer = sdp(handset.rtp_port).replace(f"c=IN IP4 {HOST}".encode(), elsewhere)
        handset.send("INVITE", body=offer)
        response = await handset.response(488)
        assert response.headers.get("Warning") == '301 - "Incompatible network address formats"'
        handset.send("ACK")

    line = refused(caplog, scenario)
    assert line["why"] == "the c= address is IPv6, and media here goes by IPv4"
    assert line["change"].startswith("rtp.alternate_host: ")


@pytest.mark.parametrize(
    ("srtp", "keys", "insecure", "change"),
    [
        ("off", True, True, 'sip.trunks.carrier.srtp = "optional"'),
        ("required", False, True, 'sip.trunks.carrier.srtp = "optional"'),
        ("required", True, False, "let the caller come by TLS"),
    ],
)
def test_keys(
    caplog: pytest.LogCaptureFixture, srtp: Any, *, keys: bool, insecure: bool, change: str
) -> None:
    def body(handset: Handset) -> bytes:
        plain = sdp(handset.rtp_port)
        return plain.replace(b"RTP/AVP", b"RTP/SAVP") + CRYPTO if keys else plain

    trunk = Trunk("carrier", addresses=(HOST,), srtp=srtp)
    line = refused(caplog, offers(body, 488), trunks=[trunk], insecure_keys=insecure)
    assert line["why"].startswith("SRTP is ")
    assert line["change"].startswith(change)
    assert ("with keys" in line["offer"]) is keys


def test_no_password(caplog: pytest.LogCaptureFixture) -> None:
    """Which every caller is asked for once: no warning."""
    trunk = Trunk("carrier", addresses=(HOST,), users={"alice": "secret"})
    line = refused(caplog, offers(lambda h: sdp(h.rtp_port), 401), trunks=[trunk])
    assert (line["said"], line["levelname"]) == ("INVITE challenged", "INFO")
    assert line["why"] == "realm carrier: no Authorization"
    assert line["change"].startswith("sip.trunks.carrier.digest.users")


def test_a_trunk_that_is_full(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(exchange: Exchange) -> None:
        first = await exchange.up()
        late = await exchange.handset()
        late.send("INVITE", body=sdp(late.rtp_port))
        await late.response(503)
        late.send("ACK")
        first.send("BYE", cseq=2)
        await first.response(200)

    trunk = Trunk("carrier", addresses=(HOST,), max_calls=1)
    line = refused(caplog, scenario, trunks=[trunk])
    assert (line["status"], line["change"]) == (503, "sip.trunks.carrier.max_calls")


@pytest.mark.parametrize(
    ("header", "status", "why"),
    [
        (("Require", "precondition"), 420, "Bad Extension"),
        (("Replaces", "x;to-tag=1;from-tag=2"), 481, "Replaces: no such dialog"),
    ],
)
def test_what_the_user_agent_refuses(
    caplog: pytest.LogCaptureFixture, header: tuple[str, str], status: int, why: str
) -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port), headers=[header])
        await handset.response(status)
        handset.send("ACK")

    line = refused(caplog, scenario)
    assert (line["status"], line["why"]) == (status, why)
    assert line["compared"] == "sip.unknown_sources may call: yes"


def test_a_service_that_stops(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(exchange: Exchange) -> None:
        exchange.phones.drain()
        await offers(lambda h: sdp(h.rtp_port), 503)(exchange)

    assert refused(caplog, scenario)["why"] == "the service is stopping"


def test_strangers_are_told_of_where_to_write_them(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        exchange = await Exchange(
            admits=False, trunks=[Trunk("carrier", addresses=("198.51.100.0/24",))]
        ).open()
        handset = await exchange.handset()
        for _ in range(3):
            handset.send("INVITE", body=sdp(handset.rtp_port))
        await virtual.settle()
        await exchange.close()

    virtual.run(main(), patience_s=0.002)
    (line,) = [vars(r) for r in caplog.records if r.getMessage() == "dropped in silence"]
    assert line["compared"] == (
        f"compared {HOST} with carrier 198.51.100.0/24: no; sip.unknown_sources may call: no"
    )
    assert (line["matched"], line["from"]) == ("nothing", HOST)
    assert line["change"].startswith("sip.trunks.<name>.addresses")


def test_a_flood_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    lines = RefusalLog()
    found = refusal(*invited(), STRANGER, OverloadedError("full"))
    for _ in range(1000):
        if lines.has_room(1.0):
            lines.tell(found)
    assert len(caplog.records) == BURST
    assert lines.has_room(1.1)
    lines.tell(found)
    assert vars(caplog.records[-1])["unlogged"] == 1000 - BURST


def test_a_long_list_of_networks_fits_a_line() -> None:
    caller = Caller("", tuple(f"compared a with net-{n}: no" for n in range(40)))
    found = refusal(*invited(), caller, Rejection(400, "Missing To"))
    assert found.fields["compared"].endswith("net-15: no; and 24 more")
    assert (found.why, found.change) == ("Missing To", "what the caller sends")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "offered: nothing, the offer is ours; taken: PCMU, SRTP off"),
        (b"\xff\xfe nonsense", "taken: PCMU, SRTP off"),
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 9 RTP/AVP 98\r\n", "no codec we know"),
    ],
)
def test_odd_offers(body: bytes, said: str) -> None:
    assert said in compare_media(body, ["PCMU"], "off")


def test_a_call_id_is_cut() -> None:
    request = caller_request("INVITE", call_id="x" * 4000)
    found = refusal(request, invited()[1], STRANGER, Rejection(400, "Bad"))
    assert len(found.sip_call_id) == 128

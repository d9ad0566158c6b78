"""An INVITE that was captured, given once more to the code that takes live ones, without a wire."""

import asyncio
import ipaddress
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from bridge.calls.policy import DROPPED
from bridge.config import Config
from bridge.errors import ConfigError, SipError
from bridge.legs.refusals import Refusal
from bridge.legs.sip_leg import SipLeg
from bridge.sip.events import Flow
from bridge.sip.framing import MAX_MESSAGE
from bridge.sip.message import Request, parse_message
from bridge.telephony import phones_without_ports

PATIENCE_S = 5.0
_START = re.compile(rb"^INVITE [^\r\n]+ SIP/2\.0\r?$", re.MULTILINE | re.IGNORECASE)
_LENGTH = re.compile(rb"^(?:Content-Length|l)[ \t]*:[ \t]*(\d{1,6})", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    accepted: bool
    text: str


def read_invite(path: Path) -> bytes:
    """The message in a file, `-` for standard input. Raises ConfigError that says what is wrong.

    Editors and captures change line ends and lose the last one: that is made good.
    """
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--invite {path}: {error.strerror}") from None
    start = _START.search(data)
    if start is None:
        raise ConfigError(
            f"--invite {path}: no line like 'INVITE sip:agent@example.com SIP/2.0' in it; "
            "save the request as text, headers and body"
        )
    data = data[start.start() :]
    if b"\r\n" not in data:
        data = data.replace(b"\n", b"\r\n")
    length, (_, _, body) = _LENGTH.search(data), data.partition(b"\r\n\r\n")
    if length is not None and len(body) < int(length[1]) <= len(body) + 2:
        data += b"\r\n"[len(body) - int(length[1]) :]
    if len(data) > MAX_MESSAGE:
        raise ConfigError(f"--invite {path}: larger than a SIP message may be")
    return data


def read_source(text: str) -> tuple[str, int]:
    """`192.0.2.7`, `192.0.2.7:5062`, `[2001:db8::1]:5062`. Raises ConfigError."""
    host, port = text, "5060"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        raise ConfigError(f"--from {text}: write an IP address, as 192.0.2.7:5060") from None
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"--from {text}: the port is a number from 1 to 65535")
    return address, int(port)


async def rehearse(config: Config, data: bytes, source: str, transport: str) -> Verdict:
    """What becomes of the INVITE; `source` and `transport` are as its Via says when empty.

    Raises ConfigError when there is no telling where it came from, or it is no INVITE at all.
    """
    try:
        request = parse_message(data)
    except SipError as error:
        raise ConfigError(f"--invite: this cannot be read as SIP: {error.message}") from None
    assert isinstance(request, Request)
    via = request.top_via
    transport = transport or via.transport.lower()
    remote = read_source(source) if source else _from_via(request)
    local = "::1" if ":" in remote[0] else "127.0.0.1"
    flow = Flow(transport, (local, 5060), remote)
    legs: list[SipLeg] = []
    refusals: list[Refusal] = []
    decided = asyncio.Event()

    def take(leg: SipLeg) -> None:
        legs.append(leg)
        decided.set()

    def refuse(refusal: Refusal) -> None:
        refusals.append(refusal)
        decided.set()

    phones, policy = phones_without_ports(config, take)
    phones.on_refused = refuse
    await phones.start()
    try:
        phones.agent.receive(data, flow, phones.now())
        for event in phones.agent.events():
            phones.happened(event)
            # An offer of DTLS is answered once the ways to us are known.
            await asyncio.wait_for(decided.wait(), PATIENCE_S)
        head = [f"INVITE from {remote[0]}:{remote[1]} by {transport}"]
        caller = policy.caller(request, flow)
        head += caller.compared
        head += [f"taken as  {caller.setting}"] if caller.is_known else []
        if legs:
            return Verdict(accepted=True, text="\n".join([*head, *_accepted(config, legs[0])]))
        if refusals:
            return Verdict(accepted=False, text="\n".join([*head, *_refused(refusals[0])]))
        silence = ["verdict   met with silence: an address of nobody's", f"change    {DROPPED}"]
        return Verdict(accepted=False, text="\n".join([*head, *silence]))
    finally:
        await phones.close()


def _from_via(request: Request) -> tuple[str, int]:
    via = request.top_via
    port = via.rport or via.port or 5060
    try:
        return str(ipaddress.ip_address(via.received or via.host.strip("[]"))), port
    except ValueError:
        raise ConfigError(
            f"its Via names {via.host}, no address: say where it came from, --from IP[:PORT]"
        ) from None


def _accepted(config: Config, leg: SipLeg) -> list[str]:
    negotiated = leg.media.negotiated
    by = f"by trunk {leg.terms.trunk}" if leg.terms.trunk else "without a trunk"
    codecs = leg.terms.codecs or tuple(config.rtp.codecs)
    if negotiated is None:
        codec = f"the codec it chooses from our offer of {' '.join(codecs)}"
    else:
        srtp = negotiated.crypto[0].suite if negotiated.crypto else leg.media.security
        codec = f"codec {negotiated.codec}, SRTP {srtp}"
    if config.webhooks.url:
        then = f"announced to {config.webhooks.url}, whose receiver accepts or rejects it"
    else:
        then = "answered with the default session"
    return [f"verdict   accepted {by} with {codec}", f"then      {then}"]


def _refused(refusal: Refusal) -> list[str]:
    lines = [refusal.offer] if refusal.offer else []
    lines.append(f"verdict   refused {refusal.status} because {refusal.why}")
    if refusal.routine:
        lines.append("          (callers send it again with their password: capture that one)")
    return [*lines, f"change    {refusal.change}"]

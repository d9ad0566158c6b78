"""The state two user agents share (RFC 3261 section 12): tags, sequence numbers, targets, route."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bridge.errors import SipError
from bridge.ids import SipCallId
from bridge.sip.events import Flow
from bridge.sip.message import Headers, Request, Response
from bridge.sip.replaces import Replaces
from bridge.sip.transaction import is_reliable
from bridge.sip.uri import DEFAULT_PORT, NameAddr, SipUri

MAX_FORWARDS = ("Max-Forwards", "70")

DialogId = tuple[SipCallId, str, str]


@dataclass(slots=True)
class Dialog:
    call_id: SipCallId
    local_tag: str
    remote_tag: str
    """Empty for peers of RFC 2543."""
    local: str
    """Our From of requests, raw, with our tag."""
    remote: str
    """Our To of requests, raw, with their tag: byte for byte as the peer wrote it."""
    remote_target: SipUri
    route_set: tuple[NameAddr, ...]
    flow: Flow
    """By which the peer last reached us."""
    local_cseq: int
    remote_cseq: int | None = None
    behind_nat: bool = False
    """The peer's Contact cannot be reached; the source of its INVITE can."""
    flow_lost: bool = False
    """`flow` was a connection, and it is closed."""

    @classmethod
    def from_request(cls, request: Request, flow: Flow, *, local_tag: str, cseq: int) -> "Dialog":
        """As UAS (section 12.1.1). Raises SipError when the request cannot make a dialog."""
        target = _target(request)
        routes = tuple(request.record_routes)
        return cls(
            call_id=request.sip_call_id,
            local_tag=local_tag,
            remote_tag=request.from_tag or "",
            local=_with_tag(request.to, local_tag),
            remote=str(request.from_),
            remote_target=target,
            route_set=routes,
            flow=flow,
            local_cseq=cseq,
            remote_cseq=request.cseq.number,
            behind_nat=not routes and _is_behind_nat(request, target, flow),
        )

    @classmethod
    def from_response(cls, request: Request, response: Response, flow: Flow) -> "Dialog":
        """As UAC (section 12.1.2): the route set is Record-Route in reverse.

        A response whose Contact is missing or bad must not cost the call: then the target stays.
        """
        try:
            target = _target(response)
        except SipError:
            target = request.request_uri
        routes = tuple(reversed(response.record_routes))
        return cls(
            call_id=request.sip_call_id,
            local_tag=request.from_tag or "",
            remote_tag=response.to_tag or "",
            local=str(request.from_),
            remote=str(response.to),
            remote_target=target,
            route_set=routes,
            flow=flow,
            local_cseq=request.cseq.number,
            behind_nat=not routes and _is_private(target.host) and not _is_private(flow.remote[0]),
        )

    @property
    def id(self) -> DialogId:
        return self.call_id, self.local_tag, self.remote_tag

    @property
    def replaces(self) -> str:
        """This dialog in a Replaces header that the peer will get (RFC 3891 section 6.1)."""
        return str(Replaces(self.call_id, self.remote_tag or "0", self.local_tag))

    def accept(self, request: Request) -> bool:
        """Take the CSeq of a request; False when it is out of order (section 12.2.2).

        Gaps are fine: a proxy may have answered what is missing. An equal number is let through
        for BYE, which simple phones send.
        """
        number, last = request.cseq.number, self.remote_cseq
        if last is not None and (number < last or (number == last and request.method != "BYE")):
            return False
        self.remote_cseq = number
        return True

    def reached_by(self, flow: Flow) -> None:
        self.flow = flow
        self.flow_lost = False

    def refresh_target(self, message: Request | Response) -> None:
        """The route set never changes inside a dialog, the target does."""
        contact = message.contact
        if contact is not None and contact.uri.is_sip:
            self.remote_target = contact.uri.without_headers

    def request(
        self,
        method: str,
        via: str,
        *,
        cseq: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Request:
        """The next request of this dialog; an ACK brings the `cseq` of its INVITE."""
        if cseq is None:
            self.local_cseq += 1
            cseq = self.local_cseq
        uri, routes = self._routing()
        lines = [
            ("Via", via),
            MAX_FORWARDS,
            *(("Route", route) for route in routes),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            *headers,
        ]
        return Request(method, uri, Headers(lines), body)

    def next_hop(self) -> Flow:
        """Where requests go: the top Route, not the Contact behind it.

        A connection is used as long as it lasts. Names are not resolved here: what came by the
        hop that bears the name goes back to where it came from.
        """
        if self.behind_nat or (is_reliable(self.flow) and not self.flow_lost):
            return self.flow
        hop = self.route_set[0].uri if self.route_set else self.remote_target
        host = hop.params.get("maddr") or hop.host
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return self.flow
        if (address.version == 6) != (":" in self.flow.local[0]):
            return self.flow
        transport = _transport_to(hop, self.flow.transport)
        port = hop.port or DEFAULT_PORT.get(transport, 5060)
        return replace(self.flow, transport=transport, remote=(str(address), port), key=0)

    def has_peer(self, host: str) -> bool:
        """Requests of this dialog may come from there: its last source, its route, its target."""
        if host == self.flow.remote[0]:
            return True
        hops = [self.remote_target, *(route.uri for route in self.route_set)]
        return any(_same_host(host, hop.params.get("maddr") or hop.host) for hop in hops)

    def _routing(self) -> tuple[str, list[str]]:
        """Request-URI and Route headers (section 12.2.1.1), strict routers included."""
        routes = [str(route) for route in self.route_set]
        if not routes or self.route_set[0].uri.loose_routing:
            return str(self.remote_target), routes
        first = self.route_set[0].uri.without_headers
        return str(first), [*routes[1:], f"<{self.remote_target}>"]


def _target(message: Request | Response) -> SipUri:
    contact = message.contact
    if contact is None and not message.top_via.has_magic_cookie:
        # RFC 2543 phones may leave Contact out; then their From is where they are.
        contact = message.from_
    if contact is None:
        raise SipError("Missing Contact")
    if not contact.uri.is_sip:
        raise SipError("Contact Is Not SIP")
    return contact.uri.without_headers


def _with_tag(address: NameAddr, tag: str) -> str:
    text = str(address)
    if address.tag is not None:
        return text
    return f"{text};tag={tag}"


def _is_behind_nat(request: Request, target: SipUri, flow: Flow) -> bool:
    source = flow.remote[0]
    return request.top_via.host != source and target.host != source


def _transport_to(hop: SipUri, used: str) -> str:
    """What the hop asks for, if it can be called by that; otherwise as before."""
    wanted = (hop.params.get("transport") or "").lower()
    if wanted not in ("udp", "tcp", "tls"):
        return used
    return "tls" if hop.scheme == "sips" else wanted


def _same_host(address: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(address) == ipaddress.ip_address(host)
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False

"""Decides whether a request can be acted on at all, and with which status it is refused."""

from collections.abc import Collection, Sequence
from itertools import filterfalse

from bridge.errors import SipError
from bridge.sip.grammar import split_outside
from bridge.sip.message import MAX_VIAS, VERSION, Rejection, Request
from bridge.sip.uri import Via

SCHEMES = frozenset({"sip", "sips", "tel"})
BODY_TYPES = ("application/sdp", "multipart/mixed")

_SINGLE = ("from", "to", "call-id", "cseq", "max-forwards")
_NEEDED = ("from", "to", "call-id", "cseq")
_TARGET_REFRESH = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "REFER", "REGISTER"})
_OFFER_ANSWER = frozenset({"INVITE", "UPDATE", "PRACK"})


def validate(
    request: Request,
    *,
    allow: Sequence[str] | None = None,
    supported: Collection[str] = (),
    body_types: Sequence[str] = BODY_TYPES,
) -> Rejection | None:
    """None when the request may be processed (RFC 3261 section 8.2, in its order).

    After None the mandatory accessors (`vias`, `from_`, `to`, `sip_call_id`, `cseq`, `contact`,
    `request_uri`) do not raise. `allow` turns on the method check, `supported` holds the option
    tags that `Require` may name. An ACK with a rejection is dropped: ACK is never answered.
    """
    if request.version != VERSION:
        return Rejection(505, "Version Not Supported")
    return (
        request.fault
        or _check_syntax(request)
        or _check_method(request, allow)
        or _check_scheme(request)
        or _check_require(request, supported)
        or _check_body(request, body_types)
        or _check_accept(request)
    )


def _bad(reason: str) -> Rejection:
    return Rejection(400, reason)


def _check_syntax(request: Request) -> Rejection | None:
    headers = request.headers
    for name in _NEEDED:
        if not headers.get(name):
            return _bad(f"Missing {name.title()}")
    for name in _SINGLE:
        if len(headers.get_all(name)) > 1:
            return _bad(f"Repeated {name.title()}")
    try:
        return _check_vias(headers.get_all("via")) or _check_values(request)
    except SipError as error:
        return _bad(error.message)


def _check_vias(lines: Sequence[str]) -> Rejection | None:
    others = [split_outside(line, ",") for line in filterfalse(Via.is_plain, lines)]
    texts = [text for line in others for text in line if text]
    if len(lines) - len(others) + len(texts) > MAX_VIAS:
        return Rejection(513, "Too Many Vias")
    for text in texts:
        Via.parse(text).check_port()
    if any(len(line) > 1 and "" in line for line in others):
        return _bad("Empty Via")
    return None


def _check_values(request: Request) -> Rejection | None:
    headers = request.headers
    if request.cseq.method != request.method:
        return _bad("CSeq Method Mismatch")
    _ = request.from_, request.to, request.request_uri
    if request.request_uri.headers:
        return _bad("Headers In Request-URI")
    if request.method in _TARGET_REFRESH:
        _ = request.contact
    if "max-forwards" in headers and request.max_forwards is None:
        return _bad("Bad Max-Forwards")
    expires = headers.get("expires") or ""
    if request.expires is None and expires.isascii() and expires.isdigit():
        return _bad("Bad Expires")
    return None


def _check_method(request: Request, allow: Sequence[str] | None) -> Rejection | None:
    if allow is None or request.method in allow:
        return None
    return Rejection(405, "Method Not Allowed", (("Allow", ", ".join(allow)),))


def _check_scheme(request: Request) -> Rejection | None:
    if request.request_uri.scheme in SCHEMES:
        return None
    return Rejection(416, "Unsupported URI Scheme")


def _check_require(request: Request, supported: Collection[str]) -> Rejection | None:
    # RFC 3261 section 8.2.2.3: Require in a CANCEL or an ACK is ignored.
    if request.method in ("ACK", "CANCEL"):
        return None
    known = {tag.lower() for tag in supported}
    unknown = [tag for tag in request.headers.values("require") if tag.lower() not in known]
    if not unknown:
        return None
    return Rejection(420, "Bad Extension", (("Unsupported", ", ".join(unknown)),))


def _check_body(request: Request, body_types: Sequence[str]) -> Rejection | None:
    if not request.body or request.method not in _OFFER_ANSWER:
        return None
    disposition = request.headers.get("content-disposition") or ""
    if "handling=optional" in disposition.replace(" ", "").lower():
        return None
    encoding = (request.headers.get("content-encoding") or "identity").lower()
    if encoding != "identity":
        return Rejection(415, "Unsupported Media Type", (("Accept-Encoding", "identity"),))
    # Old gateways send SDP without saying so.
    if not request.content_type or request.content_type in body_types:
        return None
    return Rejection(415, "Unsupported Media Type", (("Accept", ", ".join(body_types)),))


def _check_accept(request: Request) -> Rejection | None:
    """An INVITE must be able to read the SDP of its answer (RFC 3261 section 20.1)."""
    accepted = request.headers.values("accept")
    if request.method != "INVITE" or not accepted:
        return None
    types = {value.partition(";")[0].strip().lower() for value in accepted}
    if types & {"application/sdp", "application/*", "*/*"}:
        return None
    return Rejection(406, "Not Acceptable")

"""Finds the session description in a message body, alone or inside a multipart (RFC 5621)."""

from bridge.errors import SipError
from bridge.sip.grammar import WHITESPACE, Params, unquote
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response

SDP = "application/sdp"
MAX_PARTS = 16
MAX_PART_HEADERS = 16


def session_description(message: Request | Response) -> bytes | None:
    """The SDP, or None. Carriers wrap it beside ISUP or a location document; never raises."""
    if not message.body:
        return None
    # A body without a type is taken for what an INVITE carries; old gateways leave it out.
    if message.content_type in (SDP, ""):
        return message.body
    if not message.content_type.startswith("multipart/"):
        return None
    _, _, params = (message.headers.get("content-type") or "").partition(";")
    try:
        boundary = unquote(Params.parse(params).get("boundary") or "")
    except SipError:
        return None
    return _part(message.body, boundary) if boundary else None


def _part(body: bytes, boundary: str) -> bytes | None:
    delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    for part in (b"\r\n" + body).split(delimiter, MAX_PARTS)[1:]:
        if part.startswith(b"--"):
            return None
        head, blank, content = part.partition(b"\r\n\r\n")
        if blank and _media_type(head) == SDP:
            # The line break before the next delimiter belongs to the delimiter; SDP needs its own.
            return content if content.endswith(b"\n") else content + b"\r\n"
    return None


def _media_type(head: bytes) -> str:
    lines = head.decode("latin-1").split("\r\n", MAX_PART_HEADERS)[:MAX_PART_HEADERS]
    headers = Headers(
        (name.strip(WHITESPACE), value.strip(WHITESPACE))
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    )
    return (headers.get("content-type") or "").partition(";")[0].strip(WHITESPACE).lower()

"""SIP requests and responses: tolerant reading, strict writing.

Values stay raw strings and are parsed when somebody asks, so that a broken header nobody needs
costs nothing and Via, From, To, Call-ID, CSeq and Record-Route go back byte for byte (folded
lines are joined by one space). `parse_message` refuses only what cannot be answered at all;
what is wrong but answerable is left in `Request.fault` for `bridge.sip.validation.validate`.
A `Response` that comes out of `parse_message` has a sound Via, From, To, Call-ID and CSeq.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from bridge.errors import SipError
from bridge.ids import SipCallId
from bridge.sip.framing import (
    MAX_HEAD,
    MAX_HEADERS,
    MAX_LINE,
    MAX_LINES,
    MAX_MESSAGE,
    KeepAlive,
    StreamFramer,
    declared_length,
)
from bridge.sip.grammar import (
    MAX_PARAMS,
    SPACE_OR_CONTROL,
    WHITESPACE,
    first_outside,
    has_bare_nul,
    is_token,
    parse_number,
    split_outside,
)
from bridge.sip.headers import USUAL_NAMES, Headers, canonical_name
from bridge.sip.lazy import lazy
from bridge.sip.reasons import REASONS
from bridge.sip.uri import CSeq, NameAddr, SipUri, Via

__all__ = [
    "Headers",
    "KeepAlive",
    "Rejection",
    "Request",
    "Response",
    "StreamFramer",
    "make_response",
    "parse_message",
    "stamp_source",
]

VERSION = "SIP/2.0"
MAX_VIAS = 70
MAX_ADDRESSES = 32
"""In one of Contact, Route and Record-Route."""
MAX_DELIMITERS = 512
"""Commas, semicolons, quotes and angle brackets in all headers."""

_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE)
_FOLD = re.compile(rb"\n[ \t]+")
_DELIMITERS = b',;"<'
_STATUS_LINE = re.compile(r"(SIP/[0-9]+\.[0-9]+) ([0-9]{3,20})(?: (.*))?", re.IGNORECASE)
_ECHOED = frozenset({"via", "from", "to", "call-id", "cseq"})
_DIALOG_FORMING = frozenset({"INVITE", "SUBSCRIBE", "REFER", "NOTIFY"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rejection:
    """The answer a request gets before anybody acts on it."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()
    why: str = field(default="", compare=False)
    """For our own log: what the peer is not told."""
    routine: bool = field(default=False, compare=False)
    """A step that every good call takes, such as the challenge before its password."""


class _Message:
    """Accessors shared by requests and responses.

    Mandatory values raise SipError when missing or malformed; optional ones are None or empty.
    """

    headers: Headers
    body: bytes

    @lazy
    def vias(self) -> list[Via]:
        """Top first."""
        return [self.top_via, *map(Via.parse, self.headers.values("via", MAX_VIAS)[1:])]

    @lazy
    def top_via(self) -> Via:
        line = self.headers.get("via")
        if line is None:
            raise SipError("no Via", status=None)
        return Via.parse(first_outside(line, ","))

    @lazy
    def cseq(self) -> CSeq:
        return CSeq.parse(self._needed("cseq"))

    @lazy
    def sip_call_id(self) -> SipCallId:
        return SipCallId(self._needed("call-id"))

    @lazy
    def from_(self) -> NameAddr:
        return NameAddr.parse(self._needed("from"))

    @lazy
    def to(self) -> NameAddr:
        return NameAddr.parse(self._needed("to"))

    @property
    def from_tag(self) -> str | None:
        return self.from_.tag

    @property
    def to_tag(self) -> str | None:
        return self.to.tag

    @lazy
    def contacts(self) -> list[NameAddr]:
        """Raises SipError when one is malformed; `*` and absent give an empty list."""
        values = self.headers.values("contact", MAX_ADDRESSES)
        return [] if values == ["*"] else [NameAddr.parse(value) for value in values]

    @lazy
    def contact(self) -> NameAddr | None:
        """The first Contact; raises SipError when it is malformed: it may become a target."""
        contacts = self.contacts
        return contacts[0] if contacts else None

    @lazy
    def routes(self) -> list[NameAddr]:
        """Raises SipError when one is malformed."""
        return [NameAddr.parse(value) for value in self.headers.values("route", MAX_ADDRESSES)]

    @lazy
    def record_routes(self) -> list[NameAddr]:
        """In the order of the message; raises SipError when one is malformed."""
        values = self.headers.values("record-route", MAX_ADDRESSES)
        return [NameAddr.parse(value) for value in values]

    @property
    def max_forwards(self) -> int | None:
        return self._optional("max-forwards", lambda text: parse_number(text, 256))

    @property
    def expires(self) -> int | None:
        return self._optional("expires", _seconds)

    @property
    def min_se(self) -> int | None:
        """RFC 4028 section 5, seconds."""
        return self._optional("min-se", _seconds)

    @property
    def session_expires(self) -> tuple[int, str | None] | None:
        """Seconds and `uac`, `uas` or None (RFC 4028 section 4)."""
        return self._optional("session-expires", _session_expires)

    @property
    def retry_after(self) -> int | None:
        return self._optional("retry-after", lambda text: _seconds(text.partition("(")[0]))

    @property
    def rseq(self) -> int | None:
        return self._optional("rseq", lambda text: parse_number(text, 2**32))

    @property
    def rack(self) -> tuple[int, int, str] | None:
        """RSeq, CSeq number and method of the reliable response (RFC 3262 section 7.2)."""
        return self._optional("rack", _rack)

    @property
    def refer_to(self) -> NameAddr | None:
        return self._optional("refer-to", NameAddr.parse)

    @property
    def require(self) -> list[str]:
        """Option tags, lower case."""
        return [tag.lower() for tag in self.headers.values("require")]

    @property
    def supported(self) -> list[str]:
        return [tag.lower() for tag in self.headers.values("supported")]

    @property
    def allow(self) -> list[str]:
        return self.headers.values("allow")

    @property
    def content_type(self) -> str:
        """`type/subtype` in lower case without parameters; empty when there is none."""
        media_type = (self.headers.get("content-type") or "").partition(";")[0]
        return "".join(media_type.split()).lower()

    def _needed(self, name: str) -> str:
        value = self.headers.get(name)
        if not value:
            raise SipError(f"no {name} header")
        return value

    def _optional(self, name: str, parse: Callable[[str], T]) -> T | None:
        value = self.headers.get(name)
        if value is None:
            return None
        try:
            return parse(value)
        except SipError:
            return None

    def _serialise(self, start_line: str) -> bytes:
        lines = [start_line]
        length = str(len(self.body))
        written = False
        for name, value in self.headers:
            usual = USUAL_NAMES.get(name)
            if usual is None:
                if not is_token(name):
                    raise SipError("header name is not a token", status=500)
                usual = name.lower()
            if usual in ("content-length", "l"):
                if written:
                    continue
                written, value = True, length
            lines.append(f"{name}: {value}")
        if not written:
            lines.append(f"Content-Length: {length}")
        head = "\r\n".join(lines)
        breaks = len(lines) - 1
        # A value with a line break would be a header of its own.
        if head.count("\r") != breaks or head.count("\n") != breaks or has_bare_nul(head):
            raise SipError("line break or NUL in a header", status=500)
        return b"%b\r\n\r\n%b" % (head.encode("utf-8", "surrogateescape"), self.body)


@dataclass(frozen=True)
class Request(_Message):
    """`uri` is the raw Request-URI; `request_uri` the parsed one."""

    method: str
    uri: str
    headers: Headers
    body: bytes = b""
    version: str = VERSION
    fault: Rejection | None = None
    """What reading found wrong; never written."""

    @lazy
    def request_uri(self) -> SipUri:
        """Raises SipError."""
        return SipUri.parse(self.uri)

    def serialise(self) -> bytes:
        """Raises SipError rather than let a value break out of its line."""
        if not is_token(self.method) or not self.uri or SPACE_OR_CONTROL.search(self.uri):
            raise SipError("bad request line", status=500)
        return self._serialise(f"{self.method} {self.uri} {self.version}")

    def __bytes__(self) -> bytes:
        return self.serialise()


@dataclass(frozen=True)
class Response(_Message):
    status: int
    reason: str
    headers: Headers
    body: bytes = b""
    version: str = VERSION

    def serialise(self) -> bytes:
        """Raises SipError rather than let a value break out of its line."""
        if not 100 <= self.status <= 699:
            raise SipError("no such status", status=500)
        return self._serialise(f"{self.version} {self.status} {self.reason}")

    def __bytes__(self) -> bytes:
        return self.serialise()


def parse_message(data: bytes) -> Request | Response:
    """One datagram, or one frame of a stream. Raises SipError with status None: drop it."""
    if len(data) > MAX_MESSAGE:
        raise SipError("message too large", status=None)
    head, body = _split(data)
    lines, fault = _lines(head)
    start_line = lines[0]
    headers = Headers.read(lines[1:]) if fault is None else Headers(_echoed(lines))
    if start_line[:4].upper() == "SIP/":
        return _response(start_line, headers, body, fault)
    method, _, rest = start_line.partition(" ")
    uri, _, version = rest.rstrip(WHITESPACE).rpartition(" ")
    if not is_token(method) or not _VERSION.fullmatch(version):
        raise SipError("not SIP", status=None)
    if start_line != f"{method} {uri} {version}" or uri != uri.strip(WHITESPACE):
        fault = fault or Rejection(400, "Extra Space In Request Line")
    if fault is None:
        body, fault = _cut_body(headers, body)
    request = Request(method, uri, headers, body, version.upper(), fault)
    _answerable(request)
    return request


def make_response(
    request: Request,
    status: int,
    *,
    reason: str | None = None,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """RFC 3261 section 8.2.6.2; `to_tag` is added unless the To header has a tag already.

    Record-Route is copied into what may establish a dialog: 101-299 to INVITE and its like.
    """
    lines = [("Via", value) for value in request.headers.get_all("via")]
    if 100 < status < 300 and request.method in _DIALOG_FORMING:
        lines += [("Record-Route", value) for value in request.headers.get_all("record-route")]
    for wire_name in ("From", "To", "Call-ID", "CSeq"):
        value = request.headers.get(wire_name)
        if value is None:
            continue
        if wire_name == "To" and to_tag is not None and not _has_tag(request):
            value = f"{value};tag={to_tag}"
        lines.append((wire_name, value))
    if status == 100 and (timestamp := request.headers.get("timestamp")):
        lines.append(("Timestamp", timestamp))
    lines += headers
    return Response(status, reason or REASONS.get(status, "Unknown"), Headers(lines), body)


def stamp_source(request: Request, remote: tuple[str, int]) -> Request:
    """With `received` and `rport` in the top Via, if they are due; other Vias untouched.

    Raises SipError when there is no readable Via.
    """
    via = request.top_via
    stamped = via.with_source(remote[0], remote[1])
    if stamped is via:
        return request
    line = request.headers.get("via") or ""
    rest = line.lstrip(WHITESPACE)[len(via.text) :]
    headers = request.headers.replaced("via", f"{stamped}{rest}")
    found = Request(
        request.method, request.uri, headers, request.body, request.version, request.fault
    )
    found.__dict__["top_via"] = stamped
    return found


def _split(data: bytes) -> tuple[bytes, bytes]:
    data = data.lstrip(b"\r\n")
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        head, blank, body = data.partition(b"\n\n")
    if not blank:
        # Some peers leave out the empty line when there is no body.
        head = data.rstrip(b"\r\n")
    return head, body


def _lines(head: bytes) -> tuple[list[str], Rejection | None]:
    """Unfolded, the start line first, and which of the caps they exceed."""
    excess = None
    if len(head) > MAX_HEAD:
        excess = "Header Section Too Long"
        head = head[: head.rfind(b"\n", 0, MAX_HEAD) + 1].rstrip(b"\r\n")
    if head.count(b"\n") > MAX_LINES:
        excess = "Too Many Lines"
        head = b"\n".join(head.split(b"\n", MAX_LINES)[:MAX_LINES]).rstrip(b"\r\n")
    head = _FOLD.sub(b" ", head.replace(b"\r\n", b"\n"))
    text = head.decode("utf-8", "surrogateescape")
    if b"\r" in head or (b"\0" in head and has_bare_nul(text)):
        raise SipError("stray CR or NUL in the header section", status=None)
    lines = text.split("\n", MAX_HEADERS + 1)
    if len(lines) > MAX_HEADERS + 1:
        del lines[-1]
        excess = "Too Many Headers"
    elif len(text) > MAX_LINE and max(map(len, lines)) > MAX_LINE:
        excess = "Header Too Long"
    if len(head) - len(head.translate(None, _DELIMITERS)) > MAX_DELIMITERS:
        excess = "Too Many Values"
    return lines, Rejection(513, excess) if excess else None


def _echoed(lines: list[str]) -> list[tuple[str, str]]:
    """The headers that a refusal says again. Raises SipError when it cannot say them."""
    found: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        canonical = USUAL_NAMES.get(name) or canonical_name(name.rstrip(WHITESPACE))
        if canonical not in _ECHOED or not colon:
            continue
        # Without all of its Vias an answer goes astray; the others may be left out.
        if len(line) <= (2 * MAX_LINE if canonical == "via" else MAX_LINE):
            found.append((name.rstrip(WHITESPACE), value.strip(WHITESPACE)))
        elif canonical == "via":
            raise SipError("Via too long", status=None)
    return found


def _cut_body(headers: Headers, body: bytes) -> tuple[bytes, Rejection | None]:
    """Octets past Content-Length are dropped (RFC 3261 section 18.3)."""
    if "content-length" not in headers:
        return body, None
    try:
        length = declared_length(headers.get_all("content-length"))
    except SipError as error:
        return b"", Rejection(400, error.message)
    if length > MAX_MESSAGE:
        return b"", Rejection(513, "Message Too Large")
    if length > len(body):
        return b"", Rejection(400, "Content-Length Exceeds Message")
    return body[:length], None


def _response(start_line: str, headers: Headers, body: bytes, fault: Rejection | None) -> Response:
    match = _STATUS_LINE.fullmatch(start_line)
    if fault is None:
        body, fault = _cut_body(headers, body)
    if match is None or fault is not None or not 100 <= int(match[2]) <= 699:
        raise SipError("bad response", status=None)
    if match[1].upper() != VERSION:
        raise SipError("unknown SIP version", status=None)
    response = Response(int(match[2]), match[3] or "", headers, body)
    _answerable(response)
    try:
        _ = response.cseq, response.from_, response.to, response.sip_call_id
    except SipError as error:
        raise SipError(error.message, status=None) from None
    return response


def _answerable(message: Request | Response) -> None:
    try:
        _ = message.top_via
    except SipError as error:
        raise SipError(error.message, status=None) from None


def _has_tag(request: Request) -> bool:
    try:
        return "tag" in request.to.params
    except SipError:
        return False


def _seconds(text: str) -> int:
    return parse_number(text.partition(";")[0], 2**32)


def _session_expires(text: str) -> tuple[int, str | None]:
    seconds, *params = split_outside(text, ";", MAX_PARAMS)
    refresher = None
    for param in params:
        name, _, value = param.partition("=")
        if name.strip().lower() == "refresher" and value.strip().lower() in ("uac", "uas"):
            refresher = value.strip().lower()
    return parse_number(seconds, 2**32), refresher


def _rack(text: str) -> tuple[int, int, str]:
    words = text.split(None, 3)
    if len(words) != 3:
        raise SipError("bad RAck")
    return parse_number(words[0], 2**32), parse_number(words[1], 2**31), words[2]

"""Values inside SIP headers: URIs, name-addrs, Via and CSeq, each with the text it came from.

`str()` of a parsed value is that text, byte for byte: tags, branches and parameters must come
back as they were sent, and re-escaping them breaks dialog matching at the other end. Values made
by us have no text and are written from their fields.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from bridge.errors import SipError
from bridge.sip.grammar import (
    NO_PARAMS,
    SPACE_OR_CONTROL,
    WHITESPACE,
    Params,
    closing_quote,
    is_token,
    parse_number,
    quote,
    unquote,
)

MAX_CSEQ = 2**31
MAGIC_COOKIE = "z9hG4bK"
MAX_KNOWN = 256
"""Characters of an address that is kept for its next appearance."""
MAX_URI = 2048
MAX_URI_HEADERS = 32
DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
# Wider than the ABNF: container names, underscores and labels that end in digits are all in use.
_HOST = re.compile(r"[A-Za-z0-9._\-~\x80-\U0010ffff]+")
# What nearly every Via looks like; octets that are no UTF-8 are in its host as in _HOST.
_PLAIN_VIA = re.compile(
    r"SIP/2\.0/[A-Za-z]++ [A-Za-z0-9._\-~\udc80-\udcff]++(?::[1-9][0-9]{0,3}+)?+"
    r"(?:;[A-Za-z0-9.\-]++(?:=[A-Za-z0-9.\-]*+)?+){0,9}+"
)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._\-]+)?")


def parse_host_port(text: str, *, port_limit: int = 65536) -> tuple[str, int | None]:
    """`host`, `host:5060`, `[::1]:5060`; the brackets are taken off. Raises SipError."""
    text = text.strip(WHITESPACE)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _IPV6.fullmatch(host):
            raise SipError("bad IPv6 address")
        rest = rest.lstrip(WHITESPACE)
        if rest and not rest.startswith(":"):
            raise SipError("bad port")
        port = rest[1:]
        has_port = bool(rest)
    else:
        host, colon, port = text.partition(":")
        host = host.rstrip(WHITESPACE)
        has_port = bool(colon)
        if not _HOST.fullmatch(host):
            raise SipError("bad host")
    return host, parse_number(port, port_limit) if has_port else None


def format_host_port(host: str, port: int | None) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"


@dataclass(frozen=True, slots=True)
class SipUri:
    """A SIP or SIPS URI (RFC 3261 section 19.1); other schemes have `scheme` and `user` only.

    `user` is still escaped. For `tel:` it is the number; for unknown schemes everything.
    """

    scheme: str = "sip"
    user: str = ""
    host: str = ""
    port: int | None = None
    params: Params = NO_PARAMS
    headers: str = ""
    """What follows `?`, still escaped."""
    password: str | None = None
    text: str = field(default="", compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> "SipUri":
        return _known_uri(text) if len(text) <= MAX_KNOWN else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> "SipUri":
        text = text.strip(WHITESPACE)
        if len(text) > MAX_URI:
            raise SipError("URI too long")
        if SPACE_OR_CONTROL.search(text) or "<" in text or ">" in text:
            raise SipError("bad URI")
        scheme, colon, rest = text.partition(":")
        if not colon or not _SCHEME.fullmatch(scheme):
            raise SipError("URI without a scheme")
        scheme = scheme.lower()
        if scheme in ("sip", "sips"):
            return cls._parse_sip(scheme, rest, text)
        if scheme == "tel":
            number, _, params = rest.partition(";")
            if not number:
                raise SipError("tel URI without a number")
            return cls(scheme, number, params=Params.parse(params), text=text)
        return cls(scheme, rest, text=text)

    @classmethod
    def _parse_sip(cls, scheme: str, rest: str, text: str) -> "SipUri":
        # A user part may hold `;` and `?` unescaped, so the `@` decides before they do.
        userinfo, at, tail = rest.partition("@")
        if not at:
            userinfo, tail = "", rest
        address, question, headers = tail.partition("?")
        address, semicolon, params = address.partition(";")
        if "@" in address:
            extra, _, address = address.rpartition("@")
            userinfo = f"{userinfo}@{extra}"
        if at and not userinfo:
            raise SipError("URI with an empty user")
        user, colon, password = userinfo.partition(":")
        host, port = parse_host_port(address)
        return cls(
            scheme,
            user,
            host,
            port,
            Params.parse(params) if semicolon else NO_PARAMS,
            headers if question else "",
            password if colon else None,
            text,
        )

    @property
    def is_sip(self) -> bool:
        return self.scheme in ("sip", "sips")

    @property
    def username(self) -> str:
        """`user` with its escapes resolved."""
        return _unescape(self.user)

    @property
    def transport(self) -> str:
        """The transport to use, lower case: the parameter, or what the scheme implies."""
        chosen = (self.params.get("transport") or "").lower()
        if self.scheme == "sips":
            return "wss" if chosen in ("ws", "wss") else "tls"
        return chosen or "udp"

    @property
    def loose_routing(self) -> bool:
        return "lr" in self.params

    def header(self, name: str) -> str | None:
        """An embedded header, unescaped: `Replaces` of a Refer-To."""
        for pair in self.headers.split("&", MAX_URI_HEADERS)[:MAX_URI_HEADERS]:
            key, _, value = pair.partition("=")
            if _unescape(key).lower() == name.lower():
                return _unescape(value)
        return None

    @property
    def without_headers(self) -> "SipUri":
        """What may stand in a Request-URI when a Refer-To or Contact carried `?Header=…`."""
        if not self.headers:
            return self
        return SipUri(self.scheme, self.user, self.host, self.port, self.params, "", self.password)

    def __str__(self) -> str:
        if self.text:
            return self.text
        if not self.is_sip:
            return f"{self.scheme}:{self.user}{self.params}"
        password = "" if self.password is None else f":{self.password}"
        userinfo = f"{self.user}{password}@" if self.user else ""
        headers = f"?{self.headers}" if self.headers else ""
        address = format_host_port(self.host, self.port)
        return f"{self.scheme}:{userinfo}{address}{self.params}{headers}"


@dataclass(frozen=True, slots=True)
class NameAddr:
    """`"Display" <uri>;params` or a bare URI with header parameters (RFC 3261 section 20)."""

    uri: SipUri
    display_name: str = ""
    params: Params = NO_PARAMS
    text: str = field(default="", compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> "NameAddr":
        return _known_address(text) if len(text) <= MAX_KNOWN else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> "NameAddr":
        text = text.strip(WHITESPACE)
        display, bracket, rest = _split_display(text)
        if not bracket:
            # Without brackets `;` starts header parameters, and `?` and `,` are not allowed.
            address, _, params = text.partition(";")
            if "?" in address or "," in address or '"' in address:
                raise SipError("URI needs angle brackets")
            return cls(SipUri.parse(address), "", Params.parse(params), text)
        address, closed, params = rest.partition(">")
        if not closed:
            raise SipError("unclosed angle bracket")
        params = params.lstrip(WHITESPACE)
        if params and not params.startswith(";"):
            raise SipError("text after the URI")
        return cls(SipUri.parse(address), display, Params.parse(params), text)

    @property
    def tag(self) -> str | None:
        return self.params.get("tag") or None

    def __str__(self) -> str:
        if self.text:
            return self.text
        display = f"{quote(self.display_name)} " if self.display_name else ""
        return f"{display}<{self.uri}>{self.params}"


# The same addresses come again with each message of a call.
_known_uri = lru_cache(maxsize=2048)(SipUri._parse)
_known_address = lru_cache(maxsize=2048)(NameAddr._parse)


@dataclass(frozen=True, slots=True)
class Via:
    """One hop (RFC 3261 section 20.42); `transport` is upper case, as it is written."""

    transport: str
    host: str
    port: int | None = None
    params: Params = NO_PARAMS
    version: str = "SIP/2.0"
    text: str = field(default="", compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> "Via":
        text = text.strip(WHITESPACE)
        head, _, params = text.partition(";")
        name, _, rest = head.partition("/")
        version, _, rest = rest.partition("/")
        words = rest.split(None, 1)
        if len(words) != 2:
            raise SipError("bad Via")
        name, version = name.strip(WHITESPACE), version.strip(WHITESPACE)
        transport, sent_by = words
        if not (is_token(name) and is_token(version) and is_token(transport)):
            raise SipError("bad Via protocol")
        # A port that does not exist must still be answerable with a 400.
        host, port = parse_host_port(sent_by, port_limit=2**31)
        protocol = f"{name}/{version}".upper()
        return cls(transport.upper(), host, port, Params.parse(params), protocol, text)

    is_plain = staticmethod(_PLAIN_VIA.fullmatch)
    """Of a text: `parse` takes it, one Via with a port that exists. Others may be as good."""

    def check_port(self) -> None:
        """Raises SipError for one that does not exist."""
        if self.port is not None and not 0 < self.port < 65536:
            raise SipError("Bad Via Port")

    @property
    def branch(self) -> str | None:
        return self.params.get("branch") or None

    @property
    def has_magic_cookie(self) -> bool:
        """RFC 3261 branch: unique by itself. A bare cookie is as good as none (RFC 4475 3.2.1)."""
        branch = self.branch or ""
        return len(branch) > len(MAGIC_COOKIE) and branch[: len(MAGIC_COOKIE)] == MAGIC_COOKIE

    @property
    def received(self) -> str | None:
        return self.params.get("received") or None

    @property
    def rport(self) -> int | None:
        """The port written by the server; None when absent or not filled in yet."""
        return _port_or_none(self.params.get("rport"))

    @property
    def wants_rport(self) -> bool:
        return "rport" in self.params

    @property
    def sent_by(self) -> str:
        return format_host_port(self.host, self.port)

    def with_source(self, host: str, port: int) -> "Via":
        """Stamped with where it really came from (RFC 3261 section 18.2.1, RFC 3581 section 4).

        The text is edited in place, so that the rest goes back unchanged.
        """
        params = self.params
        if self.wants_rport:
            params = params.replaced("rport", str(port))
        if self.wants_rport or self.host.lower() != host.lower() or self.received:
            params = params.replaced("received", host)
        if params == self.params:
            return self
        head = self.text.partition(";")[0] if self.text else self._head()
        return Via(self.transport, self.host, self.port, params, self.version, f"{head}{params}")

    def _head(self) -> str:
        return f"{self.version}/{self.transport} {self.sent_by}"

    def __str__(self) -> str:
        return self.text or f"{self._head()}{self.params}"


@dataclass(frozen=True, slots=True)
class CSeq:
    """RFC 3261 section 20.16; the number is below 2^31."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> "CSeq":
        words = text.split(None, 1)
        if len(words) != 2 or not is_token(words[1].strip(WHITESPACE)):
            raise SipError("bad CSeq")
        return cls(parse_number(words[0], MAX_CSEQ), words[1].strip(WHITESPACE))

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def _split_display(text: str) -> tuple[str, bool, str]:
    """Display name, whether a `<` follows, and what is behind it."""
    if text.startswith('"'):
        end = closing_quote(text, 0)
        if end < 0:
            raise SipError("unclosed quote")
        rest = text[end + 1 :].lstrip(WHITESPACE)
        if not rest.startswith("<"):
            raise SipError("display name without a URI")
        return unquote(text[: end + 1]), True, rest[1:]
    display, bracket, rest = text.partition("<")
    display = display.rstrip(WHITESPACE)
    if bracket and ("," in display or '"' in display or ";" in display):
        raise SipError("bad display name")
    return display, bool(bracket), rest


def _port_or_none(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return parse_number(text, 65536)
    except SipError:
        return None


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )

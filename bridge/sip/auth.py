"""Digest authentication as values: challenges, authorisations, and a client's answers to them.

RFC 7616 as used by SIP (RFC 3261 section 22, RFC 8760). Values between quotes are kept as they
were sent, escapes included, because that is what both ends hash and echo.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from bridge.errors import SipError
from bridge.sip.grammar import WHITESPACE, closing_quote, is_token, quote, split_outside, unquote
from bridge.sip.message import Response

MAX_CHALLENGES = 16
NONCE_COUNTS = 2**32

_HASHES: dict[str, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
_STRENGTH = {"SHA-256": 2, "MD5": 1}
_SCHEME = re.compile(r"([A-Za-z0-9\-.!%*_+`'~]+)[ \t]+(?=[A-Za-z0-9\-.!%*_+`'~]+[ \t]*=)")
ANSWERED_IN = {
    "www-authenticate": "Authorization",
    "proxy-authenticate": "Proxy-Authorization",
}
CHALLENGED_BY = {401: "www-authenticate", 407: "proxy-authenticate"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """`realm` None answers whichever realm asks; a name answers that one only."""

    username: str
    password: str = field(repr=False)
    realm: str | None = None

    def match(self, realm: str) -> bool:
        return self.realm is None or self.realm == unquote(f'"{realm}"')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate of scheme Digest."""

    realm: str
    nonce: str
    algorithm: str | None = None
    """As sent; None means MD5."""
    qop: tuple[str, ...] = ()
    """Lower case; empty when the server knows RFC 2069 only."""
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, text: str) -> "Challenge":
        """Raises SipError, also for a scheme that is not Digest."""
        challenges = list(_split_challenges(text))
        if len(challenges) != 1:
            raise SipError("not one challenge")
        return cls._from_params(_digest_params(challenges[0]))

    @classmethod
    def _from_params(cls, params: dict[str, str]) -> "Challenge":
        if "realm" not in params or not params.get("nonce"):
            raise SipError("challenge without realm or nonce")
        qop = params.get("qop", "").lower().split(",")
        return cls(
            params["realm"],
            params["nonce"],
            params.get("algorithm"),
            tuple(option for part in qop if (option := part.strip(WHITESPACE))),
            params.get("opaque"),
            params.get("stale", "").lower() == "true",
        )

    @property
    def strength(self) -> int:
        """0 when we cannot answer it: the algorithm or every qop is unknown."""
        name, session = split_algorithm(self.algorithm)
        # A session key needs a cnonce, and RFC 2069, which has no qop, has none.
        usable = not session if not self.qop else not {"auth", "auth-int"}.isdisjoint(self.qop)
        return _STRENGTH.get(name, 0) if usable else 0

    def with_nonce(self, nonce: str) -> "Challenge":
        return replace(self, nonce=nonce, stale=False)

    def __str__(self) -> str:
        parts = [f'Digest realm="{self.realm}"', f'nonce="{self.nonce}"']
        if self.opaque is not None:
            parts.append(f'opaque="{self.opaque}"')
        if self.stale:
            parts.append("stale=true")
        if self.algorithm is not None:
            parts.append(f"algorithm={self.algorithm}")
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Authorization:
    """One Authorization or Proxy-Authorization of scheme Digest."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str = field(default="", repr=False)
    algorithm: str | None = None
    cnonce: str | None = None
    opaque: str | None = None
    qop: str | None = None
    """Lower case."""
    nc: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Authorization":
        """Raises SipError, also for a scheme that is not Digest."""
        challenges = list(_split_challenges(text))
        if len(challenges) != 1:
            raise SipError("not one authorization")
        params = _digest_params(challenges[0])
        missing = {"username", "realm", "nonce", "uri", "response"} - params.keys()
        if missing:
            raise SipError(f"authorization without {min(missing)}")
        qop, nc = params.get("qop"), params.get("nc")
        if qop is not None and (nc is None or not params.get("cnonce")):
            raise SipError("authorization with qop needs nc and cnonce")
        return cls(
            params["username"],
            params["realm"],
            params["nonce"],
            params["uri"],
            params["response"].lower(),
            params.get("algorithm"),
            params.get("cnonce"),
            params.get("opaque"),
            None if qop is None else qop.lower(),
            None if nc is None else _parse_count(nc),
        )

    def expected(self, password: str, method: str, body: bytes) -> str:
        """The response this should carry (RFC 7616 section 3.4.1).

        Raises SipError when the algorithm or qop is unknown or a session key lacks its cnonce.
        """
        name, session = split_algorithm(self.algorithm)
        digest = _HASHES.get(name)
        if digest is None:
            raise SipError("unknown digest algorithm")
        if self.qop not in (None, "auth", "auth-int"):
            raise SipError("unknown qop")
        secret = digest(_octets(self.username, self.realm, password))
        if session:
            if self.cnonce is None:
                raise SipError("session key without a cnonce")
            secret = digest(_octets(secret, self.nonce, self.cnonce))
        request = [method, self.uri]
        if self.qop == "auth-int":
            request.append(digest(body))
        hashed = digest(_octets(*request))
        if self.qop is None:
            return digest(_octets(secret, self.nonce, hashed))
        count = f"{self.nc or 0:08x}"
        return digest(_octets(secret, self.nonce, count, self.cnonce or "", self.qop, hashed))

    def __str__(self) -> str:
        parts = [
            f'Digest username="{self.username}"',
            f'realm="{self.realm}"',
            f'nonce="{self.nonce}"',
            f'uri="{self.uri}"',
            f'response="{self.response}"',
        ]
        if self.algorithm is not None:
            parts.append(f"algorithm={self.algorithm}")
        if self.cnonce is not None:
            parts.append(f'cnonce="{self.cnonce}"')
        if self.opaque is not None:
            parts.append(f'opaque="{self.opaque}"')
        if self.qop is not None:
            parts += [f"qop={self.qop}", f"nc={self.nc or 0:08x}"]
        return ", ".join(parts)


def authorise(
    response: Response,
    method: str,
    uri: str,
    body: bytes,
    credentials: Credentials,
    rng: random.Random,
    count: int = 1,
) -> tuple[str, str] | None:
    """The header, name and value, that answers a 401 or 407; None when we must not or cannot.

    `uri` is the raw Request-URI, `count` how often this nonce has been used with this one.
    Whether a second challenge deserves a second answer is told by `is_stale`.
    """
    source = CHALLENGED_BY.get(response.status)
    challenge = choose(response.headers.get_all(source), credentials) if source else None
    if source is None or challenge is None:
        return None
    value = answer(challenge, method, uri, body, credentials, rng, count)
    return ANSWERED_IN[source], str(value)


def is_stale(response: Response, credentials: Credentials) -> bool:
    """Whether only the nonce was too old, so that the same password is worth another try."""
    source = CHALLENGED_BY.get(response.status)
    challenge = choose(response.headers.get_all(source), credentials) if source else None
    return challenge is not None and challenge.stale


def choose(lines: Iterable[str], credentials: Credentials) -> Challenge | None:
    """The strongest challenge for these credentials, the topmost among equals.

    RFC 8760 section 2.4 says topmost; whoever puts MD5 above SHA-256 is not helped to it.
    """
    best, strength = None, 0
    for params in _usable(lines):
        try:
            challenge = Challenge._from_params(_digest_params(params))
        except SipError:
            continue
        if credentials.match(challenge.realm) and challenge.strength > strength:
            best, strength = challenge, challenge.strength
    return best


def answer(
    challenge: Challenge,
    method: str,
    uri: str,
    body: bytes,
    credentials: Credentials,
    rng: random.Random,
    count: int = 1,
) -> Authorization:
    """Raises SipError for a challenge of strength 0. `auth` is preferred: proxies edit bodies."""
    if not challenge.strength:
        raise SipError("challenge that cannot be answered")
    qop = None
    if challenge.qop:
        qop = "auth" if "auth" in challenge.qop else "auth-int"
    draft = Authorization(
        quote(credentials.username)[1:-1],
        challenge.realm,
        challenge.nonce,
        quote(uri)[1:-1],
        algorithm=challenge.algorithm,
        cnonce=f"{rng.getrandbits(128):032x}" if qop else None,
        opaque=challenge.opaque,
        qop=qop,
        nc=count % NONCE_COUNTS if qop else None,
    )
    return replace(draft, response=draft.expected(credentials.password, method, body))


def split_algorithm(algorithm: str | None) -> tuple[str, bool]:
    """`SHA-256-sess` → `SHA-256`, True; None means MD5."""
    name = (algorithm or "MD5").upper()
    return name.removesuffix("-SESS"), name.endswith("-SESS")


def next_nonce(response: Response) -> str | None:
    """The `nextnonce` of Authentication-Info (RFC 7616 section 3.5)."""
    value = response.headers.get("authentication-info")
    if value is None:
        return None
    try:
        return _params(split_outside(value, ",")).get("nextnonce") or None
    except SipError:
        return None


def _octets(*parts: str) -> bytes:
    return ":".join(parts).encode("utf-8", "surrogateescape")


def _usable(lines: Iterable[str]) -> Iterable[list[str]]:
    found = [params for line in lines for params in _split_challenges(line)]
    return found[:MAX_CHALLENGES]


def _split_challenges(text: str) -> Iterable[list[str]]:
    """Scheme and parameters of each challenge of a line; RFC 7235 allows several in one."""
    current: list[str] = []
    for part in split_outside(text, ","):
        match = _SCHEME.match(part)
        if match is None and ("=" in part or not part):
            if part:
                current.append(part)
            continue
        if current:
            yield current
        current = [part] if match is None else [match[1], part[match.end() :]]
    if current:
        yield current


def _digest_params(parts: list[str]) -> dict[str, str]:
    scheme, *params = parts
    if scheme.lower() != "digest":
        raise SipError("not a Digest challenge")
    return _params(params)


def _params(parts: Iterable[str]) -> dict[str, str]:
    """Names in lower case, values without their quotes but with their escapes."""
    found: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name, value = name.strip(WHITESPACE).lower(), value.strip(WHITESPACE)
        if not equals or not is_token(name) or name in found:
            raise SipError("bad digest parameter")
        if value.startswith('"'):
            if closing_quote(value, 0) != len(value) - 1:
                raise SipError("bad quoted digest parameter")
            value = value[1:-1]
        elif '"' in value:
            raise SipError("stray quote in a digest parameter")
        found[name] = value
    return found


def _parse_count(text: str) -> int:
    if len(text) != 8 or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise SipError("bad nonce count")
    return int(text, 16)

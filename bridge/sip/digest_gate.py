"""The server's side of digest: issues nonces, checks answers, shuts out who keeps guessing.

A nonce is signed, dated and bound to the host it was sent to, so a flood of strangers costs no
memory, and so only somebody who receives what we send there can have failures counted against an
address: nobody gets a peer shut out by writing its address on a datagram.
"""

import hmac
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from bridge.errors import SipError
from bridge.sip.auth import Authorization, Challenge, split_algorithm
from bridge.sip.grammar import quote, unquote
from bridge.sip.message import Rejection, Request

# Phones with an old libre give up when SHA-256 is offered at all, in whatever order: those need
# a gate that offers ("MD5",).
ALGORITHMS = ("SHA-256", "MD5")
MAX_AUTHORIZATIONS = 8

_MOMENT = 12  # hexadecimal digits of milliseconds
_SALT = 16
_SIGNATURE = 32
_SILENT = Rejection(403, "Forbidden", why="shut out for wrong passwords")
# What strangers are compared with, so that a name we do not know takes as long as one we do.
_NOBODY = "\x00"


@dataclass(frozen=True, slots=True)
class GateLimits:
    nonce_age_s: float = 300.0
    max_nonces: int = 10_000
    """In use at once; the oldest are declared stale beyond."""
    failures: int = 10
    window_s: float = 60.0
    block_s: float = 300.0
    max_sources: int = 10_000


@dataclass(slots=True)
class GateStats:
    challenged: int = 0
    stale: int = 0
    failed: int = 0
    malformed: int = 0
    admitted: int = 0
    blocked: int = 0


@dataclass(slots=True)
class _Source:
    """Failures of one host in the window that began at `since`."""

    since: float
    failures: int = 0
    blocked_until: float = 0.0


class DigestGate:
    """`password_of` gives a user's password, or None; `algorithms` are offered in that order."""

    def __init__(
        self,
        realm: str,
        password_of: Callable[[str], str | None],
        rng: random.Random,
        *,
        algorithms: tuple[str, ...] = ALGORITHMS,
        limits: GateLimits | None = None,
        any_nonce: bool = False,
    ) -> None:
        """`any_nonce` takes answers to challenges that are not ours: for captured requests that
        are looked at once more, never for live ones."""
        self.realm = realm
        self.stats = GateStats()
        self._password_of = password_of
        self._rng = rng
        self._algorithms = algorithms
        self._limits = limits or GateLimits()
        self._any_nonce = any_nonce
        self._secret = rng.randbytes(32)
        self._used: OrderedDict[str, int] = OrderedDict()
        self._stale_before = float("-inf")
        self._sources: OrderedDict[str, _Source] = OrderedDict()

    def check(self, request: Request, host: str, now: float) -> Rejection | None:
        """None when the request proves who it is from; otherwise what to answer it."""
        found = self.identify(request, host, now)
        return found if isinstance(found, Rejection) else None

    def identify(self, request: Request, host: str, now: float) -> str | Rejection:
        """The name of the user who sent this, or what to answer.

        `host` is where the request came from. Who is `blocked` should hear nothing at all and
        gets 403 here.
        """
        if self.blocked(host, now):
            self.stats.blocked += 1
            return _SILENT
        try:
            authorization = self._find(request.headers.get_all("authorization"))
        except SipError:
            self.stats.malformed += 1
            return Rejection(400, "Bad Authorization")
        if authorization is None:
            self.stats.challenged += 1
            found = "authorization" in request.headers
            why = "no Authorization" + " of our realm and algorithms" * found
            return self._challenge(host, now, why)
        if not self._is_fresh(authorization.nonce, host, now):
            # Unread: telling whether the rest was right would let passwords be tried uncounted.
            self.stats.stale += 1
            return self._challenge(host, now, "its nonce is none of ours, or too old", stale=True)
        return self._verify(authorization, request, host, now)

    def blocked(self, host: str, now: float) -> bool:
        source = self._sources.get(host)
        return source is not None and source.blocked_until > now

    def _verify(
        self, authorization: Authorization, request: Request, host: str, now: float
    ) -> str | Rejection:
        if authorization.qop is None or authorization.nc is None:
            self.stats.malformed += 1
            return Rejection(400, "Missing qop")
        username = unquote(f'"{authorization.username}"')
        password = self._password_of(username)
        try:
            expected = authorization.expected(password or _NOBODY, request.method, request.body)
        except SipError:
            self.stats.malformed += 1
            return Rejection(400, "Unknown Algorithm Or qop")
        given = authorization.response.encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(expected.encode(), given) or not password:
            self.stats.failed += 1
            self._count_failure(host, now)
            why = "the password is not the one of that user" if password else "no such user"
            return self._challenge(host, now, why, routine=False)
        if authorization.nc <= self._used.get(authorization.nonce, 0):
            self.stats.stale += 1
            return self._challenge(host, now, "its nonce was used before", stale=True)
        self._remember(authorization.nonce, authorization.nc)
        self.stats.admitted += 1
        return username

    def _find(self, lines: list[str]) -> Authorization | None:
        """The one for our realm. Raises SipError when there is none but a broken one."""
        broken: SipError | None = None
        for line in lines[:MAX_AUTHORIZATIONS]:
            try:
                authorization = Authorization.parse(line)
            except SipError as error:
                broken = error
                continue
            if unquote(f'"{authorization.realm}"') == self.realm and self._offered(authorization):
                return authorization
        if broken is not None:
            raise broken
        return None

    def _offered(self, authorization: Authorization) -> bool:
        name, _ = split_algorithm(authorization.algorithm)
        return name in {split_algorithm(algorithm)[0] for algorithm in self._algorithms}

    def _challenge(
        self, host: str, now: float, why: str, *, stale: bool = False, routine: bool = True
    ) -> Rejection:
        nonce, realm = self._issue(host, now), quote(self.realm)[1:-1]
        offers = (
            Challenge(realm, nonce, algorithm, ("auth", "auth-int"), None, stale)
            for algorithm in self._algorithms
        )
        lines = tuple(("WWW-Authenticate", str(challenge)) for challenge in offers)
        return Rejection(401, "Unauthorized", lines, f"realm {self.realm}: {why}", routine)

    def _issue(self, host: str, now: float) -> str:
        stem = f"{max(0, int(now * 1000)):0{_MOMENT}x}{self._rng.getrandbits(64):0{_SALT}x}"
        return stem + self._signature(stem, host)

    def _signature(self, stem: str, host: str) -> str:
        data = f"{stem}{host}".encode("utf-8", "surrogateescape")
        return blake2b(data, key=self._secret, digest_size=_SIGNATURE // 2).hexdigest()

    def _is_fresh(self, nonce: str, host: str, now: float) -> bool:
        if self._any_nonce:
            return True
        if len(nonce) != _MOMENT + _SALT + _SIGNATURE or not nonce.isascii():
            return False
        stem, signature = nonce[:-_SIGNATURE], nonce[-_SIGNATURE:]
        if not hmac.compare_digest(signature, self._signature(stem, host)):
            return False
        issued = _issued(nonce)
        return self._stale_before < issued and now - issued <= self._limits.nonce_age_s

    def _remember(self, nonce: str, count: int) -> None:
        self._used[nonce] = count
        self._used.move_to_end(nonce)
        while len(self._used) > self._limits.max_nonces:
            forgotten, _ = self._used.popitem(last=False)
            # Its count is gone, so that it and all before it could be replayed.
            self._stale_before = max(self._stale_before, _issued(forgotten))

    def _count_failure(self, host: str, now: float) -> None:
        limits = self._limits
        source = self._sources.pop(host, None)
        if source is None or now - source.since > limits.window_s:
            source = _Source(now)
        source.failures += 1
        if source.failures >= limits.failures:
            source.blocked_until = now + limits.block_s
        self._sources[host] = source
        while len(self._sources) > limits.max_sources:
            self._sources.popitem(last=False)


def _issued(nonce: str) -> float:
    return int(nonce[:_MOMENT], 16) / 1000

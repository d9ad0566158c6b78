"""Who may do what: API keys for everything, client secrets for starting sessions, origins."""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from starlette.requests import HTTPConnection

from bridge.errors import AuthenticationError, OverloadedError
from bridge.ids import random_base62

PREFIX = "ek_"
# A secret with a full session is some kilobytes; expired ones leave first.
MAX_SECRETS = 10_000

KEY_PROTOCOL = "openai-insecure-api-key."
LOCALHOST = r"https?://(localhost|[a-z0-9-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"


@dataclass(frozen=True, slots=True)
class ClientSecret:
    value: str
    expires_at: int
    session: Mapping[str, object] | None


class ClientSecrets:
    """`clock` gives unix seconds. Only digests are kept: a memory dump yields no token."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secrets: dict[bytes, tuple[int, Mapping[str, object] | None]] = {}

    def __len__(self) -> int:
        return len(self._secrets)

    def issue(self, session: Mapping[str, object] | None, seconds: int) -> ClientSecret:
        now = self._clock()
        self._secrets = {key: kept for key, kept in self._secrets.items() if now < kept[0]}
        if len(self._secrets) >= MAX_SECRETS:
            raise OverloadedError("Too many unexpired client secrets.")
        secret = ClientSecret(PREFIX + random_base62(43), int(now) + seconds, session)
        self._secrets[_digest(secret.value)] = (secret.expires_at, session)
        return secret

    def redeem(self, value: str) -> Mapping[str, object] | None:
        """The session it was minted with; raises AuthenticationError when unknown or expired."""
        kept = self._secrets.get(_digest(value))
        if kept is None or self._clock() >= kept[0]:
            raise AuthenticationError("The client secret is unknown or has expired.")
        return kept[1]


@dataclass(frozen=True, slots=True)
class Caller:
    """`session` is what a client secret was minted with."""

    session: Mapping[str, object] | None = None


class Keyring:
    """No keys at all is development mode: any bearer, or none, is taken for an API key."""

    def __init__(
        self, api_keys: Sequence[str], secrets: ClientSecrets, *, origins: Sequence[str] = ()
    ) -> None:
        self._digests = [_digest(key) for key in api_keys]
        self._secrets = secrets
        self._origins = frozenset(origins)

    @property
    def development(self) -> bool:
        return not self._digests

    def require_key(self, connection: HTTPConnection) -> Caller:
        """Raises AuthenticationError, also for a client secret: that is a browser's token."""
        token = self._token(connection)
        if token is not None and token.startswith(PREFIX):
            raise AuthenticationError("A client secret can only start sessions; use an API key.")
        return self._check_key(token)

    def require_any(self, connection: HTTPConnection) -> Caller:
        """An API key, or a client secret that has not expired."""
        token = self._token(connection)
        if token is not None and token.startswith(PREFIX):
            return Caller(self._secrets.redeem(token))
        return self._check_key(token)

    def _token(self, connection: HTTPConnection) -> str | None:
        self._check_origin(connection)
        return bearer(connection) or protocol_key(connection)

    def _check_key(self, token: str | None) -> Caller:
        if self.development:
            return Caller()
        if token is None:
            raise AuthenticationError(
                "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.",
            )
        digest = _digest(token)
        # Every key is compared, so that the time tells neither which one nor how far.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise AuthenticationError("Incorrect API key provided.")
        return Caller()

    def _check_origin(self, connection: HTTPConnection) -> None:
        """Without keys, any web page its user visits could drive a server on that machine."""
        origin = connection.headers.get("origin")
        if origin is None or not self.development or self._origins & {origin, "*"}:
            return
        if not re.fullmatch(LOCALHOST, origin):
            raise AuthenticationError(
                "Without API keys only pages from this machine may call; "
                "set auth.api_keys, or list the page's origin in http.cors_origins.",
                code="origin_not_allowed",
            )


def bearer(connection: HTTPConnection) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def offered_protocols(connection: HTTPConnection) -> list[str]:
    lines = connection.headers.getlist("sec-websocket-protocol")
    return [name.strip() for line in lines for name in line.split(",")]


def protocol_key(connection: HTTPConnection) -> str | None:
    """A browser cannot set headers on a WebSocket, so the key travels as an offered subprotocol."""
    for name in offered_protocols(connection):
        if name.startswith(KEY_PROTOCOL):
            return name.removeprefix(KEY_PROTOCOL) or None
    return None


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()

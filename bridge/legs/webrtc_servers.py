"""The STUN and TURN servers by which a server behind NAT is found, and what proves us to them."""

import base64
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from aiortc import RTCIceServer
from aiortc.rtcicetransport import parse_stun_turn_uri

from bridge.errors import ConfigError

# The longest call: TURN servers look at the time whenever an allocation is refreshed.
CREDENTIALS_LAST_S = 24 * 3600

_INLINE = re.compile(r"(?P<scheme>turns?):(?P<user>[^@]*):(?P<secret>[^@:]*)@(?P<rest>.+)")


@dataclass(frozen=True, slots=True)
class IceServer:
    """`secret`: username and credential are made of it for each call, as TURN servers with a static
    authentication secret take them (draft-uberti-behave-turn-rest); `username` is then a mere name.
    Raises ConfigError."""

    url: str
    username: str = ""
    credential: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        param = "webrtc.ice_servers"
        try:
            parse_stun_turn_uri(self.url)
        except ValueError as error:
            expected = "stun:host:port and turn:user:secret@host:port, or tables with url"
            raise ConfigError(f"{param} takes {expected}", param=param) from error
        if self.credential and self.secret:
            raise ConfigError(f"{param}: a credential or a secret, not both", param=param)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `stun:host:port` or `turn:user:credential@host:port`."""
        if match := _INLINE.fullmatch(text):
            url = f"{match['scheme']}:{match['rest']}"
            return cls(url, username=match["user"], credential=match["secret"])
        return cls(text)

    def for_a_call(self, now: datetime | None = None) -> RTCIceServer:
        """With credentials that hold from now on."""
        username, credential = self.username, self.credential
        if self.secret:
            now = now or datetime.now(UTC)
            expires = int(now.timestamp()) + CREDENTIALS_LAST_S
            username = f"{expires}:{username}" if username else str(expires)
            proof = hmac.digest(self.secret.encode(), username.encode(), "sha1")
            credential = base64.b64encode(proof).decode()
        return RTCIceServer(self.url, username=username or None, credential=credential or None)

"""What a UserAgent tells its owner, and the flow a message came by."""

from dataclasses import dataclass
from typing import Literal, NewType

from bridge.sip.message import Headers, Request, Response

UsageId = NewType("UsageId", int)
"""Names one call of a UserAgent; never used again."""

RequestId = NewType("RequestId", int)
"""Names one request outside of calls."""

EndCause = Literal[
    "bye",
    "hangup",
    "rejected",
    "no_ack",
    "no_prack",
    "transport",
    "timeout",
    "gone",
    "expired",
    "replaced",
]
"""`gone`: the peer knows of no such call; `expired`: no session refresh came in time;
`replaced`: another call has taken its place."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to a peer: a UDP address pair or one connection; answers go back by it."""

    transport: str
    """"udp", "tcp", "tls", "ws" or "wss"."""
    local: tuple[str, int]
    remote: tuple[str, int]
    key: int = 0
    """Tells two connections between the same addresses apart; 0 for UDP."""
    server_name: str = ""
    """TLS connections we open: what the peer's certificate must name; its address when empty."""


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """A new INVITE; 100 is already on its way."""

    usage: UsageId
    request: Request
    """`body.session_description` finds the offer; there is none when it is ours to make."""
    flow: Flow
    replaces: UsageId | None = None
    """The call whose place it takes (RFC 3891): that one ends when this one is answered."""


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """The caller gave up before the answer. The last event of its usage."""

    usage: UsageId


@dataclass(frozen=True, slots=True)
class CallConfirmed:
    """An ACK for our 2xx came: once for the call, and once for each re-INVITE answered."""

    usage: UsageId
    body: bytes
    """The answer, when our 2xx carried the offer."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last event of its usage; what is left to do on the wire happens by itself."""

    usage: UsageId
    cause: EndCause


@dataclass(frozen=True, slots=True)
class Reoffer:
    """A re-INVITE, or an UPDATE or PRACK with a body: waits for `reinvite_answer`.

    Before the answer to the call too, once the session is agreed on by reliable responses.
    """

    usage: UsageId
    body: bytes
    method: Literal["INVITE", "UPDATE", "PRACK"]


@dataclass(frozen=True, slots=True)
class EarlyAnswer:
    """The answer to an offer that went out by `provisional`, before the call is answered."""

    usage: UsageId
    body: bytes


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """INFO in the dialog; 200 is already sent."""

    usage: UsageId
    content_type: str
    """Lower case, without parameters."""
    body: bytes


@dataclass(frozen=True, slots=True)
class OutgoingProgress:
    """A 101 to 199 for a call of ours; copies of it are reported too."""

    usage: UsageId
    status: int
    reason: str
    body: bytes | None
    """Early media is described here, if at all."""
    dialog: str
    """The tag of whoever rings: several phones may ring for one call."""


@dataclass(frozen=True, slots=True)
class OutgoingAnswered:
    """The first 2xx; it is acknowledged, unless its offer waits for `acknowledge`."""

    usage: UsageId
    body: bytes
    """When the 2xx has none: the last that this phone has described itself with while ringing."""
    headers: Headers


@dataclass(frozen=True, slots=True)
class OutgoingFailed:
    """The last event of its usage: nobody took the call. 408 and 503 may be of our own making."""

    usage: UsageId
    status: int
    reason: str
    headers: Headers
    """A 3xx has its Contacts here; whether they are called is not decided by the user agent."""
    q850: int | None
    """The cause in a Reason header (RFC 3326), if there is one."""


@dataclass(frozen=True, slots=True)
class ReofferDone:
    """The final answer to `reoffer` or `update`; a failure leaves the session as it was."""

    usage: UsageId
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ReferProgress:
    """How a transfer that we asked for goes: what the peer's own call to the target is told."""

    usage: UsageId
    status: int
    reason: str
    final: bool
    """Nothing more comes. 202 and final: accepted by a peer that will not tell how it ends, or
    that has left before it did; 487: the call ended before it said anything."""


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """The peer asks us to call `refer_to` in its place; waits for `refer_answer`."""

    usage: UsageId
    refer_to: str
    """A URI, without what was embedded in it."""
    replaces: str | None
    """For `OutgoingInvite.replaces`: the call that the new one is to replace over there."""
    referred_by: str | None
    """A name-addr, checked but not proven."""


@dataclass(frozen=True, slots=True)
class RequestDone:
    """The end of a request outside of calls."""

    request: RequestId
    response: Response | None
    """None when there was none: time out or no way to send it."""


Event = (
    IncomingCall
    | CallCancelled
    | CallConfirmed
    | EarlyAnswer
    | CallEnded
    | Reoffer
    | InfoReceived
    | OutgoingProgress
    | OutgoingAnswered
    | OutgoingFailed
    | ReofferDone
    | ReferProgress
    | TransferRequested
    | RequestDone
)

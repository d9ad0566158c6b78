"""What a UserAgent is told when it is made, and what it counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.sip.events import Flow
from bridge.sip.message import Rejection, Request, Response

ALLOW = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "UPDATE", "NOTIFY", "PRACK")


def admit_all(flow: Flow) -> bool:
    return True


def no_questions(request: Request, flow: Flow) -> Rejection | None:
    return None


def forget_nothing(flow: Flow) -> None:
    pass


def tell_nobody(request: Request, flow: Flow, rejection: Rejection) -> None:
    pass


@dataclass(frozen=True, slots=True)
class AgentConfig:
    contacts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Host and port to advertise for each transport; the flow's local address otherwise."""
    user_agent: str = "realtime-bridge"
    allow: tuple[str, ...] = ALLOW
    supported: tuple[str, ...] = ("timer", "100rel")
    """Option tags, for `Supported` and against `Require`."""
    admit: Callable[[Flow], bool] = admit_all
    """False: whatever comes by this flow is met with silence."""
    trusts: Callable[[Flow], bool] | None = None
    """Who may speak in a call, or cancel one, though it is not the call's peer: the other hosts
    of a trunk. None: whoever `admit` lets in."""
    authenticate: Callable[[Request, Flow], Rejection | None] = no_questions
    """Asked for each new INVITE; what it returns is the answer, a 401 for one."""
    refused: Callable[[Request, Flow, Rejection], None] = tell_nobody
    """Told of each INVITE that ends here, before its owner has heard of it."""
    transfers: bool = False
    """REFER in calls is reported (`TransferRequested`); declined with 603 otherwise."""
    replaces: bool = False
    """New calls may take the place of others whose tags they name (RFC 3891)."""
    register: Callable[[Request, Flow], Response] | None = None
    """Answers REGISTER; without it nobody can register here."""
    flow_closed: Callable[[Flow], None] = forget_nothing
    """Told of connections that ended, for a registrar."""
    session_expires: int = 0
    """Seconds (RFC 4028) to ask of callers who can refresh but do not propose to; 0: none."""
    min_session_expires: int = 90
    max_usages: int = 2000
    max_transactions: int = 20_000
    """Finished ones count for 32 s."""
    retry_after_s: int = 5

    def __post_init__(self) -> None:
        methods = {"REFER": self.transfers, "REGISTER": self.register is not None}
        options = {"replaces": self.replaces, "norefersub": self.transfers}
        object.__setattr__(self, "allow", _with(self.allow, methods))
        object.__setattr__(self, "supported", _with(self.supported, options))

    def too_short(self, request: Request) -> list[tuple[str, str]]:
        """The headers of a 422 (RFC 4028 section 9), if the request deserves one."""
        asked = request.session_expires
        if asked is None or "timer" not in self.supported or "timer" not in request.supported:
            return []
        if asked[0] >= self.min_session_expires:
            return []
        return [("Min-SE", str(self.min_session_expires))]


def _with(listed: tuple[str, ...], more: Mapping[str, bool]) -> tuple[str, ...]:
    return (*listed, *(name for name, wanted in more.items() if wanted and name not in listed))


@dataclass(slots=True)
class AgentStats:
    not_admitted: int = 0
    malformed: int = 0
    refused: int = 0
    overloaded: int = 0
    stray: int = 0
    """Responses and ACKs that belong to nothing."""


@dataclass(frozen=True, slots=True)
class AgentCounts:
    """All zero when every call is over and its timers have run out."""

    usages: int
    server_transactions: int
    client_transactions: int
    merge_keys: int
    timers: int

"""The registration of one address of record with one of several registrars, as a state machine.

RFC 3261 section 10.2 with Path (RFC 3327), Service-Route (RFC 3608) and the keepalives and
back-off of RFC 5626. The owner sends what `take` hands out, reports what comes back, and calls
`handle_timer` when `next_timer` says so.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto

from bridge.errors import SipError
from bridge.sip.auth import Credentials
from bridge.sip.grammar import Params, parse_number
from bridge.sip.message import Headers, Request, Response
from bridge.sip.private import parse_address
from bridge.sip.register_auth import KnownChallenges
from bridge.sip.uri import NameAddr, SipUri

MAX_EXPIRES_S = 86_400
MAX_RETRY_AFTER_S = 3600.0
MAX_CONTACTS = 1000
MAX_MOVES = 5  # a NAT that shows another port each time would have us register for ever
REFRESH_AT = 0.9  # of what was granted, but leaving time for one request to time out
TIME_OUT_S = 32.0
LOST_FLOW_S = (0.1, 2.0)  # soon, yet not everybody at once when a registrar restarts
UDP_PING_S = (24.0, 29.0)  # RFC 5626 section 4.4.2
STREAM_PING_S = (95.0, 120.0)  # section 4.4.1


class State(StrEnum):
    IDLE = "idle"
    REGISTERING = "registering"
    REGISTERED = "registered"
    REFRESHING = "refreshing"
    WAITING = "waiting"
    """To try again, perhaps at once with the next registrar."""
    REFUSED = "refused"
    """The credentials are wrong: asking again would get our address banned."""
    LEAVING = "leaving"
    CLOSED = "closed"


class Input(Enum):
    START = auto()
    SUCCESS = auto()
    TRY_AGAIN = auto()
    """The answer says how to ask: a challenge or a 423."""
    REFUSED = auto()
    FAILURE = auto()
    DUE = auto()
    FLOW_LOST = auto()
    CLOSE = auto()
    ABANDON = auto()
    """Close with nothing to take back."""


class Action(Enum):
    SEND = auto()
    RESEND = auto()
    KEEP = auto()
    BACK_OFF = auto()
    RETRY_SOON = auto()
    GIVE_UP = auto()
    FINISH = auto()


_Row = Mapping[Input, tuple[State, Action]]
_ASKING: _Row = {
    Input.SUCCESS: (State.REGISTERED, Action.KEEP),
    Input.REFUSED: (State.REFUSED, Action.GIVE_UP),
    Input.FAILURE: (State.WAITING, Action.BACK_OFF),
    Input.FLOW_LOST: (State.WAITING, Action.BACK_OFF),
    Input.CLOSE: (State.LEAVING, Action.SEND),
}
TABLE: Mapping[State, _Row] = {
    State.IDLE: {
        Input.START: (State.REGISTERING, Action.SEND),
        Input.ABANDON: (State.CLOSED, Action.FINISH),
    },
    State.REGISTERING: {**_ASKING, Input.TRY_AGAIN: (State.REGISTERING, Action.RESEND)},
    State.REGISTERED: {
        Input.DUE: (State.REFRESHING, Action.SEND),
        Input.FLOW_LOST: (State.WAITING, Action.RETRY_SOON),
        Input.CLOSE: (State.LEAVING, Action.SEND),
        Input.ABANDON: (State.CLOSED, Action.FINISH),
    },
    State.REFRESHING: {**_ASKING, Input.TRY_AGAIN: (State.REFRESHING, Action.RESEND)},
    State.WAITING: {
        Input.START: (State.REGISTERING, Action.SEND),
        Input.DUE: (State.REGISTERING, Action.SEND),
        Input.CLOSE: (State.LEAVING, Action.SEND),
        Input.ABANDON: (State.CLOSED, Action.FINISH),
    },
    State.REFUSED: {
        Input.START: (State.REGISTERING, Action.SEND),
        Input.CLOSE: (State.CLOSED, Action.FINISH),
        Input.ABANDON: (State.CLOSED, Action.FINISH),
    },
    State.LEAVING: {
        Input.TRY_AGAIN: (State.LEAVING, Action.RESEND),
        Input.SUCCESS: (State.CLOSED, Action.FINISH),
        Input.REFUSED: (State.CLOSED, Action.FINISH),
        Input.FAILURE: (State.CLOSED, Action.FINISH),
        Input.FLOW_LOST: (State.CLOSED, Action.FINISH),
    },
    State.CLOSED: {},
}
_WAITING_FOR_AN_ANSWER = (State.REGISTERING, State.REFRESHING, State.LEAVING)


@dataclass(frozen=True, slots=True)
class RegistrationConfig:
    aor: str
    """`sip:user@domain`; the Request-URI is its domain unless `registrar` says another."""
    contact: str
    """The URI at which we are to be called."""
    targets: tuple[str, ...] = ()
    """URIs of where to send, the preferred one first; empty means the Request-URI."""
    registrar: str = ""
    credentials: Credentials | None = None
    expires_s: int = 3600
    instance: str = ""
    """A `urn:uuid:…` that outlives restarts: lets the registrar replace our old binding."""
    transport: str = "udp"
    keepalive: bool = True
    learns: bool = False
    """Where the registrar sees us is where we are: it is told to call us there (RFC 3581)."""
    retry_s: float = 30.0
    max_retry_s: float = 1800.0
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class SendRegister:
    """`request` lacks only its Via. What comes of it is told by `receive` or `no_answer`."""

    target: str
    request: Request


@dataclass(frozen=True, slots=True)
class SendKeepAlive:
    """CRLF CRLF on a stream, STUN or OPTIONS on UDP; no answer is a `flow_lost`."""

    target: str


@dataclass(frozen=True, slots=True)
class Registered:
    target: str
    expires_s: int
    service_route: tuple[str, ...]
    """Route values for the requests we send, in order."""
    path: tuple[str, ...]
    public_address: tuple[str, int | None] | None
    """How the registrar saw us (RFC 3581)."""
    refreshed: bool


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """`status` None when nobody answered; `retry_at` None when it takes a new `start`."""

    target: str
    status: int | None
    reason: str
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The last output."""


Output = SendRegister | SendKeepAlive | Registered | RegistrationFailed | Closed


@dataclass(slots=True)
class _Exchange:
    """One REGISTER and what is repeated of it on the registrar's word."""

    raised: bool = False
    status: int | None = None
    reason: str = "No Answer"
    retry_after: float = 0.0
    granted: int = 0
    response: Response | None = field(default=None, repr=False)


class Registration:
    def __init__(self, config: RegistrationConfig, rng: random.Random) -> None:
        """Raises SipError when `config.aor` is not a SIP URI."""
        aor = SipUri.parse(config.aor)
        if not aor.is_sip or not aor.user:
            raise SipError("not an address of record")
        self.config = config
        self.state = State.IDLE
        self.bound_until: float | None = None
        """When our binding lapses by itself; None when there is none."""
        self._rng = rng
        self._uri = config.registrar or str(SipUri(aor.scheme, "", aor.host, aor.port))
        self._contact = config.contact
        self._left = ""
        """A contact that is not ours any more, until the registrar has forgotten it."""
        self._moves = 0
        self._targets = config.targets or (self._uri,)
        self._target = 0
        self._failed = 0
        self._rounds = 0
        self._expires_s = config.expires_s
        self._sip_call_id = f"{rng.getrandbits(128):032x}"
        self._tag = f"{rng.getrandbits(64):016x}"
        self._cseq = 0
        self._known = KnownChallenges(config.credentials, rng)
        self._exchange = _Exchange()
        self._due: float | None = None
        self._ping_due: float | None = None
        self._ping_s = UDP_PING_S if config.transport == "udp" else STREAM_PING_S
        self._outputs: list[Output] = []

    @property
    def target(self) -> str:
        """Where we are registered, or try to be."""
        return self._targets[self._target]

    def take(self) -> list[Output]:
        outputs, self._outputs = self._outputs, []
        return outputs

    def start(self, now: float) -> None:
        self._walk(Input.START, now)

    def close(self, now: float) -> None:
        """Take the binding back; ends with `Closed`."""
        bound = self.bound_until is not None and self.bound_until > now
        pending = self.state in _WAITING_FOR_AN_ANSWER
        self._walk(Input.CLOSE if bound or pending else Input.ABANDON, now)

    def receive(self, response: Response, now: float) -> None:
        """A response to one of our REGISTERs; late ones and provisional ones are ignored."""
        if response.status < 200 or response.cseq.number != self._cseq:
            return
        if response.sip_call_id != self._sip_call_id:
            return
        if self.state in _WAITING_FOR_AN_ANSWER:
            self._walk(self._judge(response, now), now)

    def no_answer(self, request: Request, now: float) -> None:
        """`request` timed out or could not be sent."""
        if request.cseq.number == self._cseq and self.state in _WAITING_FOR_AN_ANSWER:
            self._exchange.status, self._exchange.reason = None, "No Answer"
            self._walk(Input.FAILURE, now)

    def flow_lost(self, now: float) -> None:
        """The connection broke, or a keepalive was not answered: nobody can reach us by it."""
        self._exchange.status, self._exchange.reason = None, "Connection Lost"
        self._walk(Input.FLOW_LOST, now)

    def next_timer(self) -> float | None:
        pending = [due for due in (self._due, self._ping_due) if due is not None]
        return min(pending, default=None)

    def handle_timer(self, now: float) -> None:
        if self._due is not None and self._due <= now:
            self._due = None
            self._walk(Input.DUE, now)
        if self._ping_due is not None and self._ping_due <= now:
            self._outputs.append(SendKeepAlive(self.target))
            self._ping_due = now + self._rng.uniform(*self._ping_s)

    def _walk(self, given: Input, now: float) -> None:
        step = TABLE[self.state].get(given)
        if step is None:
            return
        refreshed = self.state is State.REFRESHING
        self.state, action = step
        if self.state not in (State.REGISTERED, State.REFRESHING):
            self._ping_due = None
        match action:
            case Action.SEND:
                self._exchange = _Exchange()
                self._known.begin()
                self._due = None
                self._send()
            case Action.RESEND:
                self._send()
            case Action.KEEP:
                self._keep(now, refreshed=refreshed)
            case Action.BACK_OFF:
                self._back_off(now)
            case Action.RETRY_SOON:
                self._fail(now + self._rng.uniform(*LOST_FLOW_S))
            case Action.GIVE_UP:
                self._fail(None)
            case Action.FINISH:
                self.bound_until = self._due = None
                self._outputs.append(Closed())

    def _judge(self, response: Response, now: float) -> Input:
        exchange = self._exchange
        exchange.status, exchange.reason = response.status, response.reason
        exchange.response = response
        exchange.retry_after = min(float(response.retry_after or 0), MAX_RETRY_AFTER_S)
        if response.status < 300:
            self._known.accepted(response)
            exchange.granted = self._granted(response)
            lapsed = self.state is not State.LEAVING and exchange.granted <= 0
            return Input.FAILURE if lapsed else Input.SUCCESS
        if response.status in (401, 407):
            return Input.TRY_AGAIN if self._known.challenged(response) else Input.REFUSED
        if response.status == 423 and not exchange.raised and self._raise_expires(response):
            exchange.raised = True
            return Input.TRY_AGAIN
        return Input.FAILURE

    def _granted(self, response: Response) -> int:
        """Seconds: what the registrar says of our Contact, of all, or nothing at all."""
        contacts = list(_contacts(response))
        ours = [found for found in contacts if _same(found.uri, self._contact)]
        for found in ours or contacts[:1]:
            try:
                return parse_number(found.params.get("expires") or "", MAX_EXPIRES_S + 1)
            except SipError:
                continue
        return min(self._expires_s if response.expires is None else response.expires, MAX_EXPIRES_S)

    def _raise_expires(self, response: Response) -> bool:
        try:
            wanted = parse_number(response.headers.get("min-expires") or "", MAX_EXPIRES_S + 1)
        except SipError:
            return False
        higher = wanted > self._expires_s
        self._expires_s = max(wanted, self._expires_s)
        return higher

    def _keep(self, now: float, *, refreshed: bool) -> None:
        granted, response = self._exchange.granted, self._exchange.response
        assert response is not None
        self._failed = self._rounds = 0
        self.bound_until = now + granted
        self._due = now + max(0.5 * granted, min(REFRESH_AT * granted, granted - TIME_OUT_S))
        if self.config.keepalive:
            self._ping_s = _ping_interval(response, self._ping_s)
            self._ping_due = now + self._rng.uniform(*self._ping_s)
        via = response.top_via
        self._left = ""
        if self.config.learns and self._moves < MAX_MOVES:
            self._move(via.received or via.host, via.rport, now)
        self._outputs.append(
            Registered(
                self.target,
                granted,
                tuple(response.headers.values("service-route")),
                tuple(response.headers.values("path")),
                (via.received or via.host, via.rport) if via.received or via.rport else None,
                refreshed,
            )
        )

    def _move(self, host: str, port: int | None, now: float) -> None:
        """A NAT stands between: register once more, with the address on its far side."""
        contact = SipUri.parse(self._contact)
        try:
            address = str(parse_address(host))
        except ValueError:
            return
        if (address, port or contact.port) == (contact.host, contact.port):
            return
        if self.config.transport != "udp" and address == contact.host:
            # The port of a connection is no place to call, while there is another.
            return
        self._moves += 1
        self._left = self._contact
        self._contact = str(replace(contact, host=address, port=port or contact.port, text=""))
        self._due = now

    def _back_off(self, now: float) -> None:
        """The next registrar at once; when all have failed, all again after a while."""
        self._failed += 1
        self._known.forget()
        if self._failed < len(self._targets):
            self._fail(now)
            self._target = (self._target + 1) % len(self._targets)
            return
        # RFC 5626 section 4.5: between half and all of a wait that doubles.
        wait = min(self.config.retry_s * 2 ** min(self._rounds, 16), self.config.max_retry_s)
        wait *= self._rng.uniform(0.5, 1.0)
        self._fail(now + max(wait, self._exchange.retry_after))
        self._failed, self._target = 0, 0
        self._rounds += 1

    def _fail(self, retry_at: float | None) -> None:
        exchange = self._exchange
        self._due = retry_at
        self._outputs.append(
            RegistrationFailed(self.target, exchange.status, exchange.reason, retry_at)
        )

    def _send(self) -> None:
        # A pending REGISTER may be overtaken by the one that takes it back: the registrar
        # drops the lower CSeq of the same Call-ID.
        self._cseq += 1
        config, expires = self.config, 0 if self.state is State.LEAVING else self._expires_s
        lines = [
            ("Max-Forwards", "70"),
            ("From", f"<{config.aor}>;tag={self._tag}"),
            ("To", f"<{config.aor}>"),
            ("Call-ID", self._sip_call_id),
            ("CSeq", f"{self._cseq} REGISTER"),
            ("Contact", f"<{self._contact}>{self._contact_params(expires)}"),
            *([("Contact", f"<{self._left}>;expires=0")] if self._left else []),
            ("Expires", str(expires)),
            ("Supported", "path, outbound" if config.instance else "path"),
        ]
        if config.user_agent:
            lines.append(("User-Agent", config.user_agent))
        lines += self._known.lines("REGISTER", self._uri, b"")
        request = Request("REGISTER", self._uri, Headers(lines))
        self._outputs.append(SendRegister(self.target, request))

    def _contact_params(self, expires: int) -> Params:
        pairs = [("expires", str(expires))]
        if self.config.instance:
            pairs += [("+sip.instance", f'"<{self.config.instance}>"'), ("reg-id", "1")]
        return Params(pairs)


def _contacts(response: Response) -> Iterator[NameAddr]:
    """Everything that is registered there by our name: dozens of phones, and not all write well."""
    for value in response.headers.values("contact")[:MAX_CONTACTS]:
        try:
            yield NameAddr.parse(value)
        except SipError:
            continue


def _same(uri: SipUri, contact: str) -> bool:
    try:
        ours = NameAddr.parse(f"<{contact}>").uri
    except SipError:
        return False
    return (uri.user, uri.host.lower(), uri.port) == (ours.user, ours.host.lower(), ours.port)


def _ping_interval(response: Response, usual: tuple[float, float]) -> tuple[float, float]:
    """80 to 100 % of Flow-Timer (RFC 5626 section 4.4.1)."""
    try:
        seconds = parse_number(response.headers.get("flow-timer") or "", MAX_EXPIRES_S)
    except SipError:
        return usual
    return (0.8 * seconds, 1.0 * seconds) if seconds >= 5 else usual

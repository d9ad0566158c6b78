"""A registrar for softphones: who can be reached where, and until when (RFC 3261 section 10.3).

A binding remembers the flow its REGISTER came by: behind a NAT that is the only way back.
Contacts of one `+sip.instance` and `reg-id` replace each other, so that a phone that restarts at
another port does not ring twice.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bridge.errors import SipError
from bridge.sip.digest_gate import DigestGate
from bridge.sip.events import Flow
from bridge.sip.grammar import parse_number
from bridge.sip.message import Rejection, Request, Response, make_response
from bridge.sip.uri import NameAddr, SipUri

_CONNECTED = ("tcp", "tls", "ws", "wss")
Aor = tuple[str, str]
"""User and host, unescaped and in lower case where case does not count."""


@dataclass(frozen=True, slots=True)
class RegistrarLimits:
    min_expires_s: int = 60
    default_expires_s: int = 600
    max_expires_s: int = 3600
    max_bindings: int = 5
    """For one address of record."""
    max_total: int = 10_000


@dataclass(frozen=True, slots=True)
class Binding:
    contact: NameAddr
    flow: Flow
    expires_at: float
    sip_call_id: str
    cseq: int
    path: tuple[str, ...] = ()
    """Route values to put before the contact (RFC 3327)."""

    @property
    def key(self) -> tuple[str, ...]:
        params = self.contact.params
        instance = params.get("+sip.instance")
        if instance:
            return ("instance", instance, params.get("reg-id") or "")
        return contact_key(self.contact.uri)

    def remaining_s(self, now: float) -> int:
        return max(0, round(self.expires_at - now))


class Registrar:
    """Serves `domains`; a user may register the address that bears the user's own name."""

    def __init__(
        self, domains: Collection[str], gate: DigestGate, *, limits: RegistrarLimits | None = None
    ) -> None:
        self._domains = frozenset(domain.lower() for domain in domains)
        self._gate = gate
        self._limits = limits or RegistrarLimits()
        self._bindings: dict[Aor, dict[tuple[str, ...], Binding]] = {}
        self._total = 0

    def __len__(self) -> int:
        """Bindings, lapsed ones included until somebody looks."""
        return self._total

    def register(self, request: Request, flow: Flow, now: float) -> Response:
        """The answer to a REGISTER that `validate` has passed."""
        user = self._gate.identify(request, flow.remote[0], now)
        found = user if isinstance(user, Rejection) else self._update(request, user, flow, now)
        if isinstance(found, Rejection):
            return make_response(
                request, found.status, reason=found.reason, to_tag="r", headers=found.headers
            )
        lines = [
            ("Contact", f"<{binding.contact.uri}>{_params(binding, now)}") for binding in found
        ]
        lines += [("Path", value) for value in request.headers.get_all("path")]
        return make_response(request, 200, to_tag="r", headers=lines)

    def lookup(self, uri: SipUri, now: float) -> tuple[Binding, ...]:
        """Where `uri` can be reached, the latest to register first."""
        try:
            bindings = self._live(self._aor(uri), now)
        except SipError:
            return ()
        return tuple(sorted(bindings, key=lambda binding: -binding.expires_at))

    def flow_closed(self, flow: Flow) -> None:
        """A connection ended, and with it what was registered over it."""
        if flow.transport not in _CONNECTED:
            return
        for aor, bindings in list(self._bindings.items()):
            lost = [key for key, binding in bindings.items() if binding.flow == flow]
            self._remove(aor, lost)

    def flow_in_use(self, flow: Flow) -> bool:
        """Somebody is reached by this connection."""
        return any(
            binding.flow == flow
            for bindings in self._bindings.values()
            for binding in bindings.values()
        )

    def expire(self, now: float) -> None:
        """Forget what has lapsed; due every minute or so."""
        for aor in list(self._bindings):
            self._live(aor, now)

    def _update(
        self, request: Request, user: str, flow: Flow, now: float
    ) -> tuple[Binding, ...] | Rejection:
        try:
            aor = self._aor(request.to.uri)
        except SipError:
            return Rejection(404, "Not Found")
        if aor[0] != user:
            return Rejection(403, "Forbidden")
        live = {binding.key: binding for binding in self._live(aor, now)}
        try:
            if request.headers.values("contact") == ["*"]:
                changes = self._clear_all(request, live, now)
            else:
                changes = self._changes(request, flow, now)
        except SipError as error:
            return Rejection(error.status or 400, error.message, self._min_expires(error))
        return self._apply(aor, live, changes, now)

    def _clear_all(
        self, request: Request, live: dict[tuple[str, ...], Binding], now: float
    ) -> list[Binding]:
        if request.expires != 0:
            raise SipError("Contact * needs Expires 0")
        number = request.cseq.number
        return [
            Binding(old.contact, old.flow, now, request.sip_call_id, number)
            for old in live.values()
        ]

    def _changes(self, request: Request, flow: Flow, now: float) -> list[Binding]:
        """What the request asks for; `expires_at` `now` is a removal. Raises SipError."""
        path = tuple(request.headers.values("path"))
        changes = []
        contacts = request.headers.values("contact")
        if len(contacts) > 2 * self._limits.max_bindings:
            raise SipError("Too Many Contacts", status=403)
        for value in contacts:
            contact = NameAddr.parse(value)
            if not contact.uri.is_sip:
                raise SipError("Contact is not a SIP URI")
            expires = self._expires(contact, request)
            if 0 < expires < self._limits.min_expires_s:
                raise SipError("Interval Too Brief", status=423)
            expires_at = now + min(expires, self._limits.max_expires_s)
            changes.append(
                Binding(contact, flow, expires_at, request.sip_call_id, request.cseq.number, path)
            )
        return changes

    def _expires(self, contact: NameAddr, request: Request) -> int:
        for text in (contact.params.get("expires"), request.headers.get("expires")):
            if text is not None:
                try:
                    return parse_number(text, 2**32)
                except SipError:
                    # RFC 3261 section 20.19: a malformed value is as good as none given.
                    continue
        return self._limits.default_expires_s

    def _apply(
        self,
        aor: Aor,
        live: dict[tuple[str, ...], Binding],
        changes: Iterable[Binding],
        now: float,
    ) -> tuple[Binding, ...] | Rejection:
        """All of the changes or none."""
        for change in changes:
            old = live.get(change.key)
            if old and old.sip_call_id == change.sip_call_id and change.cseq <= old.cseq:
                return Rejection(500, "Out Of Order")
            if change.expires_at <= now:
                live.pop(change.key, None)
            else:
                live[change.key] = change
        before = len(self._bindings.get(aor, ()))
        if len(live) > self._limits.max_bindings:
            return Rejection(403, "Too Many Bindings")
        if self._total - before + len(live) > self._limits.max_total:
            return Rejection(503, "Registrar Full", (("Retry-After", "60"),))
        self._total += len(live) - before
        if live:
            self._bindings[aor] = live
        else:
            self._bindings.pop(aor, None)
        return tuple(live.values())

    def _min_expires(self, error: SipError) -> tuple[tuple[str, str], ...]:
        if error.status != 423:
            return ()
        return (("Min-Expires", str(self._limits.min_expires_s)),)

    def _aor(self, uri: SipUri) -> Aor:
        """Raises SipError when the address is not one of ours."""
        host = uri.host.lower()
        if not uri.is_sip or not uri.user or host not in self._domains:
            raise SipError("not our domain", status=404)
        return uri.username, host

    def _live(self, aor: Aor, now: float) -> list[Binding]:
        bindings = self._bindings.get(aor, {})
        self._remove(aor, [key for key, old in bindings.items() if old.expires_at <= now])
        return list(self._bindings.get(aor, {}).values())

    def _remove(self, aor: Aor, keys: Iterable[tuple[str, ...]]) -> None:
        bindings = self._bindings.get(aor, {})
        for key in keys:
            del bindings[key]
            self._total -= 1
        if not bindings:
            self._bindings.pop(aor, None)


def contact_key(uri: SipUri) -> tuple[str, ...]:
    """What two equal contacts share: RFC 3261 section 19.1.4 for the parts that phones use."""
    port = "" if uri.port is None else str(uri.port)
    return (uri.scheme, uri.username, uri.host.lower(), port, uri.transport)


def _params(binding: Binding, now: float) -> str:
    kept = binding.contact.params.without("expires")
    return f"{kept};expires={binding.remaining_s(now)}"

"""Which headers of an INVITE its owner sees: those of every call, and the extras a trunk allows."""

from collections.abc import Sequence

Lines = Sequence[tuple[str, str]]

CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
# Only a trusted peer's word counts for who calls (RFC 3325 section 5).
ASSERTED = frozenset({"p-asserted-identity", "p-preferred-identity"})

_USUAL = """
    via from to call-id cseq contact max-forwards route record-route content-length content-type
    content-disposition content-encoding user-agent server allow supported require accept
    accept-encoding accept-language date subject organization privacy session-expires min-se
    expires timestamp mime-version allow-events v f t i m l c k s e x u
"""
USUAL = frozenset(_USUAL.split())


def shown(headers: Lines, allowed: Sequence[str], *, trusted: bool) -> tuple[tuple[str, str], ...]:
    """In the order of the message; credentials never. `X-*` in `allowed` stands for all that
    begin so."""
    dropped = CREDENTIALS if trusted else CREDENTIALS | ASSERTED
    return tuple(
        (name, value)
        for name, value in headers
        if name.lower() not in dropped and (name.lower() in USUAL or _matches(name, allowed))
    )


def extras(headers: Lines) -> tuple[tuple[str, str], ...]:
    """Those of `headers` that not every call has: X-*, Diversion, User-to-User and their like."""
    return tuple(entry for entry in headers if entry[0].lower() not in USUAL)


def _matches(name: str, allowed: Sequence[str]) -> bool:
    wanted = name.lower()
    return any(
        wanted.startswith(each[:-1].lower()) if each.endswith("*") else wanted == each.lower()
        for each in allowed
    )

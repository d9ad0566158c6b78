"""Why an INVITE is turned away: what was compared, what matched, and which setting to change.

One line for each. Neither passwords nor keys nor numbers are in it: what it tells of an offer is
the names of its codecs.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import BridgeError, SdpError
from bridge.sdp.crypto import SECURE_PROTOCOLS
from bridge.sdp.description import SessionDescription
from bridge.sip.events import Flow
from bridge.sip.message import Rejection, Request

log = logging.getLogger(__name__)

LINES_PER_S = 20.0
BURST = 100.0
COMPARISONS = 16  # as many as one line can bear

# By the code of the error that refused the call, else by the status; `{caller}` is the part of the
# settings that the caller came under.
BY_CODE: Mapping[str, str] = {
    "trunk_calls": "{caller}.max_calls",
    "trunk_cps": "{caller}.max_cps",
    "no_rtp_port": "rtp.port_min and rtp.port_max: every port is taken",
    "no_common_codec": "{caller}.codecs or rtp.codecs, or the codecs of the caller",
    "srtp_off": '{caller}.srtp = "optional" or "required", or no SRTP at the caller',
    "srtp_no_key": '{caller}.srtp = "optional", or SRTP with SDES keys at the caller',
    "srtp_in_the_clear": "let the caller come by TLS (sip.tls_port); or, where nobody can listen, "
    "sip.insecure_srtp_keys = true",
    "dtls_required": '{caller}.srtp = "required", or DTLS-SRTP with ICE at the caller',
    "dtls_incomplete": "ICE, rtcp-mux and a SHA-2 fingerprint beside DTLS at the caller",
    "other_ip_version": "rtp.alternate_host: an address of this machine of the IP version that is "
    "offered; or the IP version that the caller prefers",
    "invalid_offer": "the session description of the caller",
}
BY_STATUS: Mapping[int, str] = {
    0: "nothing, unless that host is one of a trunk: sip.trunks.<name>.addresses",
    401: "{caller}.digest.users, or name and password of the caller",
    403: "name and password of the caller; it is heard again after five minutes",
    422: "Session-Expires of the caller",
    481: "nothing here: that call is over, or was another server's",
    482: "the proxy before us, which sends one call by two ways",
    503: "limits.max_calls",
    603: 'sip.inbound_transfer = "allow", if calls may be replaced',
}
BY_CALLER = "what the caller sends"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who somebody is by the settings; `setting` is where those say so, empty for a stranger."""

    setting: str
    compared: tuple[str, ...]
    """One comparison each, in order."""

    @property
    def is_known(self) -> bool:
        return bool(self.setting)


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    why: str
    change: str
    caller: Caller
    source: str
    sip_call_id: str = ""
    offer: str = ""
    """What was offered and what is taken here, when that decided."""
    routine: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """For a log line."""
        kept, left = self.caller.compared[:COMPARISONS], len(self.caller.compared) - COMPARISONS
        found: dict[str, Any] = {
            "status": self.status,
            "why": self.why,
            "change": self.change,
            "from": self.source,
            "compared": "; ".join([*kept, f"and {left} more"] if left > 0 else kept),
            "matched": self.caller.setting or "nothing",
            "sip_call_id": self.sip_call_id,
        }
        return found | ({"offer": self.offer} if self.offer else {})


class RefusalLog:
    """A line for each refusal; in a flood, as many as can be read, and the count of the rest."""

    def __init__(self) -> None:
        self._tokens = BURST
        self._at = 0.0
        self._unlogged = 0

    def has_room(self, now: float) -> bool:
        """Asked once for each refusal, before anything is compared for it."""
        self._tokens = min(BURST, self._tokens + max(0.0, now - self._at) * LINES_PER_S)
        self._at = now
        if self._tokens < 1.0:
            self._unlogged += 1
            return False
        self._tokens -= 1.0
        return True

    def tell(self, refusal: Refusal) -> None:
        unlogged, self._unlogged = self._unlogged, 0
        fields = refusal.fields | ({"unlogged": unlogged} if unlogged else {})
        if refusal.routine:
            log.info("INVITE challenged", extra=fields)
        else:
            log.warning("INVITE refused", extra=fields)


def refusal(
    request: Request,
    flow: Flow,
    caller: Caller,
    found: Rejection | BridgeError,
    *,
    offer: str = "",
) -> Refusal:
    if isinstance(found, Rejection):
        status, why, advice = found.status, found.why or found.reason, BY_STATUS.get(found.status)
    else:
        status, why = found.sip_status, found.message
        advice = BY_CODE.get(found.code or "") or BY_STATUS.get(status)
    return Refusal(
        status,
        why,
        (advice or BY_CALLER).format(caller=caller.setting or "sip.trunks.<name>"),
        caller,
        f"{flow.remote[0]}:{flow.remote[1]} by {flow.transport}",
        (request.headers.get("call-id") or "")[:128],
        offer,
        isinstance(found, Rejection) and found.routine,
    )


def warning(error: SdpError) -> str:
    """What a caller is told of it (RFC 3261 section 20.43)."""
    if error.code == "other_ip_version":
        return '301 - "Incompatible network address formats"'
    return '305 - "Incompatible media format"'


def compare_media(body: bytes, codecs: Sequence[str], srtp: str) -> str:
    """What an offer names, and what is taken: no addresses, and no keys."""
    ours = f"taken: {' '.join(codecs)}, SRTP {srtp}"
    if not body:
        return f"offered: nothing, the offer is ours; {ours}"
    try:
        description = SessionDescription.parse(body)
    except SdpError:
        return ours
    offered = []
    for line in description.media:
        names = " ".join(str(rtpmap) for rtpmap in line.rtpmaps().values()) or "no codec we know"
        keys = "with keys" if line.attribute("crypto") is not None else "without keys"
        secure = f" {keys}" if keys == "with keys" or line.protocol in SECURE_PROTOCOLS else ""
        offered.append(f"{line.kind} by {line.protocol}{secure} ({names})")
    return f"offered: {', '.join(offered) or 'no media'}; {ours}"

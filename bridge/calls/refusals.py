"""Turning away calls that have come as far as the switchboard, with one line that says why."""

import logging

from bridge.ids import CallId
from bridge.legs.base import Leg
from bridge.legs.sip_leg import SipLeg

log = logging.getLogger(__name__)


def turn_away(
    leg: Leg,
    status: int,
    why: str,
    *,
    change: str = "",
    call_id: CallId | None = None,
    asked: bool = False,
) -> None:
    """`change` names the setting that decided; `asked`: somebody wanted it so."""
    if leg.kind == "sip":
        trunk = leg.terms.trunk if isinstance(leg, SipLeg) else ""
        lines = {name.lower(): value for name, value in leg.headers}
        log.log(
            logging.INFO if asked else logging.WARNING,
            "INVITE refused",
            extra={
                "status": status,
                "why": why,
                "change": change or "nothing here",
                "matched": f"sip.trunks.{trunk}" if trunk else "no trunk",
                "sip_call_id": lines.get("call-id", lines.get("i", ""))[:128],
                **({"call_id": call_id} if call_id else {}),
            },
        )
    leg.reject(status)

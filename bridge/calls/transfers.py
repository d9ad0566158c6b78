"""Transfers that the far end asks for: we call whom it names, and the conversation goes there."""

import logging
from typing import Protocol

from bridge.calls.call import Call
from bridge.legs.base import Leg
from bridge.legs.sip_leg import SipLeg

log = logging.getLogger(__name__)

FAILED = 487


class TransferredLine(Protocol):
    """A live call, as its transfer sees it."""

    call: Call

    def transferred(self, leg: Leg) -> None: ...

    def transfer_news(self, status: int, reason: str, *, final: bool) -> None: ...

    def transfer_failed(self) -> None: ...


class Consultation:
    """The call to the target while the one who asked for it waits, or has hung up already."""

    def __init__(self, line: TransferredLine, asker: SipLeg, target: Leg) -> None:
        self._line = line
        self._asker = asker
        self._target = target
        target.listener = self

    async def cancel(self) -> None:
        await self._target.hangup()

    # The leg to the target

    def leg_progress(self, status: int) -> None:
        self._tell(status, "Ringing" if status == 180 else "Progress", final=False)

    def leg_answered(self) -> None:
        self._tell(200, "OK", final=True)
        self._line.transferred(self._target)

    def leg_ended(self, reason: str) -> None:
        result = self._target.result
        status = FAILED if result is None else result.status
        self._tell(status, reason if result is None else result.reason, final=True)
        self._line.transfer_failed()

    def leg_held(self, *, held: bool) -> None:
        """Nothing is said before it has answered."""

    def leg_transfer(self, status: int, reason: str, *, final: bool) -> None:
        """We ask it for none."""

    def leg_transfer_wanted(self, target: str, replaces: str, referred_by: str) -> None:
        """Not before it has answered."""

    def leg_finding(self, kind: str, text: str) -> None:
        """It has no part in the call yet."""

    def leg_digit(self, digit: str) -> None:
        """Nobody listens yet."""

    def leg_message(self, text: str) -> None:
        """A phone sends none."""

    def _tell(self, status: int, reason: str, *, final: bool) -> None:
        log.info(
            "transfer asked for by the far end",
            extra={"call_id": self._line.call.call_id, "status": status, "final": final},
        )
        self._asker.tell_transfer(status, reason, final=final)
        self._line.transfer_news(status, reason, final=final)

"""A call gets another far end: transfers at our wish and at theirs, and calls that replace one."""

import logging
from typing import Protocol

from bridge.calls.call import CallState
from bridge.calls.line import Line
from bridge.calls.policy import CallPolicy
from bridge.calls.refusals import turn_away
from bridge.calls.transfers import Consultation
from bridge.errors import BridgeError, CallNotFound, ConflictError, RequestError, SipError
from bridge.legs.base import Leg
from bridge.legs.exits import DialOrder
from bridge.legs.sip_leg import SipLeg
from bridge.sip.uri import NameAddr
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

ACCEPTED = 202
DECLINE = 603


class Dialler(Protocol):
    """Where calls to phones are made: `legs.sip.SipLegs`."""

    async def dial(self, order: DialOrder) -> Leg: ...


class Handover:
    """`phones` is set once there are any."""

    def __init__(self, policy: CallPolicy, tasks: TaskOwner) -> None:
        self.phones: Dialler | None = None
        self._policy = policy
        self._tasks = tasks

    def transfer_target(self, line: Line, target_uri: str, place: Line | None = None) -> str:
        """The URI that the call may be transferred to; with `place` the far end takes ours in
        that call, and its far end is the target unless another URI is given.

        Raises as `refer` does.
        """
        if not isinstance(line.leg, SipLeg):
            raise RequestError("Only phone calls can be transferred", param="call_id")
        if line.call.state is not CallState.ACTIVE:
            raise ConflictError("The call is not answered; it cannot be transferred")
        if place is None:
            target = self._policy.transfer_target(line.leg.terms, target_uri)
        else:
            target = self._target_in(place, line.leg, target_uri)
        if line.transferring_to not in ("", target) or line.place not in (None, place):
            raise ConflictError("The call is being transferred to another target")
        return target

    def _target_in(self, place: Line, leg: SipLeg, target_uri: str) -> str:
        other = place.leg
        if not isinstance(other, SipLeg) or other is leg:
            raise RequestError("replaces must be another phone call", param="replaces")
        if place.call.state is not CallState.ACTIVE or place.place is not None:
            raise ConflictError("The call to replace is not answered, or itself being transferred")
        if target_uri:
            return self._policy.transfer_target(leg.terms, target_uri)
        try:
            peer = str(NameAddr.parse(other.peer).uri.without_headers)
        except SipError:
            raise RequestError("target_uri is needed: its far end names none") from None
        if other.terms.trunk == leg.terms.trunk:
            # Nobody is called who is not in a call of the same trunk already.
            return peer
        return self._policy.transfer_target(leg.terms, peer)

    def transfer(self, line: Line, target: str, place: Line | None = None) -> None:
        """`target` is what `transfer_target` gave. Raises CallNotFound if a call has ended."""
        if line.call.state is not CallState.ACTIVE or not isinstance(line.leg, SipLeg):
            raise CallNotFound
        if place is None:
            line.transferring_to = target
            line.leg.refer(target)
            return
        if place.call.state is not CallState.ACTIVE or not isinstance(place.leg, SipLeg):
            line.transferring_to, line.place = "", None
            raise CallNotFound
        line.transferring_to, line.place = target, place
        place.given_away = True
        line.leg.refer(target, to=place.leg)

    # Transfers that the far end asks for

    async def take_over(self, leg: SipLeg, old: SipLeg) -> None:
        """A call in place of another: the same conversation, with whoever calls now."""
        line = old.listener
        if not isinstance(line, Line) or leg.terms.trunk != old.terms.trunk or not leg.terms.trunk:
            why = "it is to replace a call of another trunk, or of none"
            turn_away(leg, DECLINE, why, change="sip.trunks.<name>.addresses")
            return
        # The old leg ends by itself when the new one is answered.
        old.listener = None
        try:
            await leg.answer()
        except BridgeError as error:
            log.warning("call not replaced", extra={"why": error.message})
            old.listener = line
            return
        line.move(leg)

    def release(self, leg: Leg) -> None:
        self._tasks.spawn(leg.hangup(), name="hangup")

    def transfer_wanted(self, line: Line, target: str, replaces: str, referred_by: str) -> None:
        leg, phones = line.leg, self.phones
        assert isinstance(leg, SipLeg)
        try:
            if line.call.state is not CallState.ACTIVE or line.consultation or phones is None:
                raise ConflictError("not now")
            order = self._policy.transfer_order(leg.terms, target, replaces, referred_by)
        except BridgeError as error:
            log.warning("REFER refused", extra={"why": error.message, "trunk": leg.terms.trunk})
            leg.answer_transfer(DECLINE)
            return
        leg.answer_transfer(ACCEPTED)
        line.moving_to = str(order.target)
        self._tasks.spawn(self._consult(line, leg, phones, order), name="transfer")

    async def _consult(self, line: Line, asker: SipLeg, phones: Dialler, order: DialOrder) -> None:
        try:
            target = await phones.dial(order)
        except BridgeError as error:
            self._policy.released(order.terms)
            asker.tell_transfer(error.sip_status, error.message, final=True)
            line.transfer_news(error.sip_status, error.message, final=True)
            return
        if line.call.state is not CallState.ACTIVE:
            await target.hangup()
            return
        line.consultation = Consultation(line, asker, target)

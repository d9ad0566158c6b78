"""The states of a call in its dialog, and what leads from one to the next."""

from enum import StrEnum


class CallState(StrEnum):
    RINGING = "ringing"
    ANSWERED = "answered"
    CONFIRMED = "confirmed"
    LEAVING = "leaving"
    ENDING = "ending"
    ENDED = "ended"


class Step(StrEnum):
    ANSWER = "answer"
    REJECT = "reject"
    HANGUP = "hangup"
    HANGUP_LATER = "hangup, once the peer has news that it is owed"
    TOLD = "the news are sent"
    CANCEL = "CANCEL"
    ACK = "ACK"
    BYE = "BYE"
    NO_ACK = "no ACK"
    FAREWELL = "our BYE is answered"
    LOST = "flow lost"


# RFC 3261 section 15: the callee must not send BYE before the ACK, hence LEAVING; the caller may
# send BYE at any time. CANCEL after the answer does nothing (section 9.2).
# Many phones forget a dialog with its BYE: the outcome of a transfer is sent before it.
CALL: dict[CallState, dict[Step, CallState]] = {
    CallState.RINGING: {
        Step.ANSWER: CallState.ANSWERED,
        Step.REJECT: CallState.ENDED,
        Step.HANGUP: CallState.ENDED,
        Step.CANCEL: CallState.ENDED,
        Step.BYE: CallState.ENDED,
        Step.LOST: CallState.ENDED,
    },
    CallState.ANSWERED: {
        Step.ACK: CallState.CONFIRMED,
        Step.HANGUP: CallState.LEAVING,
        Step.BYE: CallState.ENDED,
        Step.NO_ACK: CallState.ENDING,
    },
    CallState.CONFIRMED: {
        Step.HANGUP: CallState.ENDING,
        Step.HANGUP_LATER: CallState.LEAVING,
        Step.BYE: CallState.ENDED,
        Step.NO_ACK: CallState.ENDING,
    },
    CallState.LEAVING: {
        Step.ACK: CallState.ENDING,
        Step.TOLD: CallState.ENDING,
        Step.BYE: CallState.ENDED,
        Step.NO_ACK: CallState.ENDING,
    },
    CallState.ENDING: {Step.FAREWELL: CallState.ENDED, Step.BYE: CallState.ENDED},
    CallState.ENDED: {},
}

"""What a session tells whoever owns it."""

from collections.abc import Mapping
from typing import Any

from bridge.backends.base import MessageTerms
from bridge.backends.tools import ToolError
from bridge.sessions.diversion import Hearer


class SessionListener:
    """What a session tells its owner; the defaults do nothing."""

    def session_hangup(self) -> None:
        """The model has said its last word and it has been played."""

    def session_transfer(self, target: str, *, returns: bool) -> None:
        """As `session_hangup`, but the caller is to be given to `target`; `returns`: and comes
        back to the model if that fails."""
        self.session_hangup()

    def session_message(self, terms: MessageTerms) -> Hearer | None:
        """What the caller says next is to be recorded; None: it cannot be. Whoever hears it calls
        `message_over` of the session."""
        return None

    def transfer_target(self, target: str) -> str:
        """Where `target` leads; raises BridgeError if the caller may not be given to it."""
        raise ToolError("This session is no phone call.")

    def session_turn(self, record: Mapping[str, Any]) -> None:
        """How long each stage took between a turn of the caller's and its answer."""

    def session_barge_in(self, record: Mapping[str, Any]) -> None:
        """How soon the wire was silent after the model was cut."""

    def session_expired(self) -> None:
        """The session reached its maximum duration."""

    def session_abandoned(self) -> None:
        """The last client of a session without a leg has left."""

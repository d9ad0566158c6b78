"""The Replaces header (RFC 3891): which dialog a new call is to take the place of."""

from dataclasses import dataclass

from bridge.errors import SipError
from bridge.ids import SipCallId
from bridge.sip.grammar import Params

OPTION = "replaces"


@dataclass(frozen=True, slots=True)
class Replaces:
    """Tags as their receiver sees them: `to_tag` is the receiver's own."""

    call_id: SipCallId
    to_tag: str
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> "Replaces":
        """Raises SipError."""
        call_id, _, rest = text.partition(";")
        params = Params.parse(rest)
        to_tag, from_tag = params.get("to-tag"), params.get("from-tag")
        if not call_id.strip() or not to_tag or not from_tag:
            raise SipError("Bad Replaces")
        return cls(SipCallId(call_id.strip()), to_tag, from_tag, "early-only" in params)

    @property
    def dialogs(self) -> tuple[tuple[SipCallId, str, str], ...]:
        """Call-ID, our tag and theirs. A tag of `0` stands for none as well (section 6.1)."""
        named = self.call_id, self.to_tag, self.from_tag
        return (named, (*named[:2], "")) if self.from_tag == "0" else (named,)

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"

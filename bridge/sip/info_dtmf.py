"""Key presses in INFO bodies: application/dtmf-relay and application/dtmf.

No standard defines them; this reads what telephones and PBXs write.
"""

import re
from dataclasses import dataclass

DIGITS = "0123456789*#ABCD"
"""In the order of their event numbers, which some bodies give (RFC 4733 section 3.2)."""

DEFAULT_MS = 100
LONGEST_MS = 10_000
MAX_BODY = 512

_LINE = re.compile(r"\s*(signal|duration)\s*=\s*(\S{1,8})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InfoDigit:
    """One press, told when the key was let go, `duration_ms` after it went down."""

    digit: str
    duration_ms: int = DEFAULT_MS


def parse_info(content_type: str, body: bytes) -> InfoDigit | None:
    """None for other bodies and for what is no key, such as a flash hook. Never raises."""
    if len(body) > MAX_BODY:
        return None
    text = body.decode("latin-1")
    match content_type.partition(";")[0].strip().lower():
        case "application/dtmf-relay":
            return _relay(text)
        case "application/dtmf":
            digit = _digit(text.strip())
            return None if digit is None else InfoDigit(digit)
        case _:
            return None


def _relay(text: str) -> InfoDigit | None:
    fields: dict[str, str] = {}
    for line in re.split(r"[\r\n]+", text):
        match = _LINE.fullmatch(line)
        if match is not None:
            fields.setdefault(match[1].lower(), match[2])
    digit = _digit(fields.get("signal", ""))
    if digit is None:
        return None
    duration = fields.get("duration", "")
    known = duration.isascii() and duration.isdigit()
    return InfoDigit(digit, min(int(duration), LONGEST_MS) if known else DEFAULT_MS)


def _digit(text: str) -> str | None:
    if len(text) == 1 and text.upper() in DIGITS:
        return text.upper()
    if re.fullmatch(r"1[0-5]", text, re.ASCII):
        return DIGITS[int(text)]
    return None

"""Identifiers: the three that the field all calls call_id, and how new ones are made."""

import secrets
from typing import NewType

CallId = NewType("CallId", str)
"""A phone or browser call, `rtc_<node tag>_<random>`: what REST, webhooks and `?call_id=` carry."""

SipCallId = NewType("SipCallId", str)
"""The Call-ID header of a SIP dialog (RFC 3261 section 20.8)."""

ToolCallId = NewType("ToolCallId", str)
"""The `call_id` of a function_call item: names one call of a tool by the model."""

SessionId = NewType("SessionId", str)
ItemId = NewType("ItemId", str)
ResponseId = NewType("ResponseId", str)

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


# An octet to a character: 248 is 4 * 62, so that those below make each as likely as any other.
_CHARACTERS = (BASE62 * 5)[:256].encode()
_SPARE = bytes(range(248, 256))


def random_base62(length: int) -> str:
    """`length` characters of 5.95 random bits each."""
    drawn = b""
    while len(drawn) < length:
        drawn += secrets.token_bytes(length + 4).translate(_CHARACTERS, _SPARE)
    return drawn[:length].decode()


def new_id(prefix: str) -> str:
    """Prefix, underscore and 21 base62 characters, as OpenAI's look: `event_…`, `item_…`."""
    return f"{prefix}_{random_base62(21)}"


def new_call_id(node_tag: str) -> CallId:
    """22 base62 characters hold 131 bits, so that an id cannot be guessed."""
    return CallId(f"rtc_{node_tag}_{random_base62(22)}")

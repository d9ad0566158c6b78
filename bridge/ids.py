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


def random_base62(length: int) -> str:
    """`length` characters of 5.95 random bits each."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def new_id(prefix: str) -> str:
    """Prefix, underscore and 21 base62 characters, as OpenAI's look: `event_…`, `item_…`."""
    return f"{prefix}_{random_base62(21)}"


def new_call_id(node_tag: str) -> CallId:
    """22 base62 characters hold 131 bits, so that an id cannot be guessed."""
    return CallId(f"rtc_{node_tag}_{random_base62(22)}")

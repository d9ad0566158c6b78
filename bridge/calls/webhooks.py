"""Webhooks: the signed word that a call is ringing, repeated for as long as it rings.

The signature is Standard Webhooks', as OpenAI's SDKs verify it: HMAC-SHA256 over
`{webhook-id}.{webhook-timestamp}.{body}`, so the body is signed as the exact bytes sent.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import httpx2
import msgspec
from standardwebhooks import Webhook

import bridge
from bridge import metrics
from bridge.errors import ConfigError
from bridge.ids import CallId, new_id

log = logging.getLogger(__name__)

ATTEMPT_TIMEOUT_S = 15.0

# Attempts start 0, 1, 3 and 7 s after the first when the receiver fails at once. A caller hears
# ringing for half a minute at most, so the steps stop growing.
RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)
MAX_RETRY_AFTER_S = 30.0

PREFIX = "whsec_"
USER_AGENT = f"realtime-bridge/{bridge.__version__}"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """`created_at` is in unix seconds."""

    id: str
    type: str
    created_at: int
    data: Mapping[str, object]

    def __bytes__(self) -> bytes:
        return msgspec.json.encode(
            {
                "object": "event",
                "id": self.id,
                "type": self.type,
                "created_at": self.created_at,
                "data": self.data,
            }
        )


def incoming_call_event(
    call_id: CallId,
    headers: Sequence[tuple[str, str]],
    *,
    created_at: int,
    media_security: str | None = None,
) -> WebhookEvent:
    """`headers` are the INVITE's without credentials: order, repetition and spelling are kept."""
    data: dict[str, object] = {
        "call_id": call_id,
        "sip_headers": [{"name": name, "value": value} for name, value in headers],
    }
    if media_security is not None:
        data["sip_media_security"] = media_security
    return WebhookEvent(new_id("evt"), "realtime.call.incoming", created_at, data)


def utc_now() -> datetime:
    return datetime.now(UTC)


def signing_key(secret: str) -> bytes:
    """Base64 after `whsec_`, the text itself otherwise; raises ConfigError."""
    if not secret.startswith(PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(
                "webhooks.secret is not base64 after 'whsec_': copy it whole, or make one with "
                "'openssl rand -base64 32' and put whsec_ before it",
                param="webhooks.secret",
            ) from None
    if not key:
        raise ConfigError("webhooks.secret is empty", param="webhooks.secret")
    return key


class WebhookSender:
    """Delivers to one endpoint. `now` stamps each attempt; `sleep` waits between them.

    Raises ConfigError for a URL or secret that cannot work.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        attempt_timeout_s: float = ATTEMPT_TIMEOUT_S,
        now: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._url = _endpoint(url)
        self._webhook = Webhook(signing_key(secret))
        self._now = now
        self._sleep = sleep
        self._timeout_s = attempt_timeout_s
        # The operator wrote the address: no proxy of the environment reroutes it.
        self._client = httpx2.AsyncClient(
            timeout=attempt_timeout_s, follow_redirects=False, trust_env=False
        )

    async def deliver(self, event: WebhookEvent, *, while_: Callable[[], bool]) -> bool:
        """True once the receiver took it with a 2xx; False when `while_` ended or it answered 410.

        The receiver sees one webhook-id over all attempts, and may see the event twice.
        """
        webhook_id = new_id("wh")
        body = bytes(event)
        attempt = 0
        while while_():
            status, retry_after_s = await self._attempt(webhook_id, body)
            delivered = status is not None and 200 <= status < 300
            metrics.webhook_attempts.labels("delivered" if delivered else "failed").inc()
            if delivered:
                return True
            fields = {"webhook_id": webhook_id, "status": status, "attempt": attempt + 1}
            if status == HTTPStatus.GONE:
                log.warning("webhook receiver is gone", extra=fields)
                return False
            log.warning("webhook attempt failed", extra=fields)
            delay_s = RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S) - 1)]
            await self._sleep(max(delay_s, retry_after_s))
            attempt += 1
        return False

    async def _attempt(self, webhook_id: str, body: bytes) -> tuple[int | None, float]:
        """The status (None: no answer) and the seconds the receiver asks us to wait."""
        headers = self._headers(webhook_id, body)
        try:
            # httpx2 limits each read; a receiver that drips its headers must not outlast the call.
            async with (
                asyncio.timeout(self._timeout_s),
                # The answer's body is never read: only its status counts.
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                return response.status_code, _retry_after(response.headers.get("retry-after", ""))
        except (httpx2.HTTPError, TimeoutError, ValueError) as error:
            log.info("webhook receiver did not answer", extra={"error": type(error).__name__})
            return None, 0.0

    def _headers(self, webhook_id: str, body: bytes) -> dict[str, str]:
        now = self._now()
        return {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(webhook_id, now, body.decode()),
        }

    async def close(self) -> None:
        await self._client.aclose()


def _endpoint(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("webhooks.url must be an http or https URL", param="webhooks.url")
    return parsed


def _retry_after(value: str) -> float:
    """Seconds, at most half a minute; the date form says too little about a ringing call."""
    return min(float(value), MAX_RETRY_AFTER_S) if value.isdecimal() and len(value) < 6 else 0.0

"""How an upstream is reached: its URL, what goes with the handshake, and what its answer means."""

import base64
import functools
import ssl
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from bridge.backends.upstream.dialects import Dialect
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.errors import BackendBusy, BackendError, ConfigError

TOO_MANY_REQUESTS = 429


def url_for(settings: UpstreamSettings, dialect: Dialect) -> str:
    """The URL with the model in its query, unless it is there already. Raises ConfigError."""
    parts = urlsplit(settings.url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ConfigError("upstream.url must begin with ws:// or wss://", param="upstream.url")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if settings.model and dialect.model_query:
        query.setdefault(dialect.model_query, settings.model)
    return urlunsplit(parts._replace(query=urlencode(query)))


def trust(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """Raises ConfigError."""
    if not settings.url.startswith("wss://"):
        return None
    return _context(settings.tls_ca)


@functools.cache
def _context(authority: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority or None)
    except OSError as error:
        raise ConfigError(
            f"upstream.tls_ca cannot be read: {error.strerror}", param="upstream.tls_ca"
        ) from None


@functools.cache
def proxy_for(url: str) -> str | None:
    """The one that the environment names for such a URL, as for other programs."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    names = ("wss", "https") if parts.scheme == "wss" else ("ws", "https", "http")
    return next((proxies[name] for name in names if name in proxies), None)


def headers_for(settings: UpstreamSettings, dialect: Dialect) -> dict[str, str]:
    headers = {"User-Agent": "bridge"}
    parts = urlsplit(settings.url)
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    if settings.api_key:
        headers[dialect.key_header] = f"{dialect.key_prefix}{settings.api_key}"
    return headers


def unreachable(error: Exception) -> BackendError:
    return BackendError(f"The model's server cannot be reached: {type(error).__name__}")


def refusal(status: int) -> BackendError:
    """What the server's answer to the handshake means to those who wait for the call."""
    if status == TOO_MANY_REQUESTS:
        return BackendBusy("The model's server has too many sessions (429)")
    if status in (401, 403):
        return BackendError(f"The model's server refused upstream.api_key ({status})")
    return BackendError(f"The model's server refused the session ({status})")

"""The exception tree; each error knows what to answer over HTTP and over SIP.

BridgeError
├── ConfigError             a setting is wrong; the message says which and what to write
├── RequestError            the client is wrong: becomes OpenAI's error object or an `error` event
│   ├── AuthenticationError 401 invalid_api_key
│   ├── NotFoundError       404
│   │   └── CallNotFound    404 call_id_not_found
│   ├── ConflictError       400: the state forbids it (official SDKs retry a 409)
│   └── PayloadTooLarge     413
├── PeerError               the other end of a wire broke its protocol
│   ├── SipError            bad SIP; carries the status to answer
│   ├── SdpError            bad or unacceptable SDP: 400 over HTTP, 488 over SIP
│   └── RtpError            bad RTP or RTCP; dropped and counted
├── OverloadedError         no port, no room, or draining: 503 with Retry-After
└── BackendError            the model behind the call failed: 502, 503 over SIP
    └── BackendBusy         it has no room for another session: 429, 480 over SIP
"""


class BridgeError(Exception):
    http_status = 500
    sip_status = 500
    type = "server_error"
    code: str | None = None
    param: str | None = None

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if param is not None:
            self.param = param


class ConfigError(BridgeError):
    """`param` is the setting's dotted name."""


class RequestError(BridgeError):
    """`code` and `param` follow OpenAI's vocabulary: invalid_value, missing_required_parameter …"""

    http_status = 400
    sip_status = 400
    type = "invalid_request_error"
    code: str | None = "invalid_value"


class AuthenticationError(RequestError):
    http_status = 401
    sip_status = 401
    code: str | None = "invalid_api_key"


class NotFoundError(RequestError):
    http_status = 404
    sip_status = 404
    code: str | None = "not_found"


class CallNotFound(NotFoundError):
    code: str | None = "call_id_not_found"

    def __init__(self, message: str = "No session found for the provided call_id") -> None:
        super().__init__(message)


class ConflictError(RequestError):
    code: str | None = "invalid_state"


class PayloadTooLarge(RequestError):
    http_status = 413
    sip_status = 513
    code: str | None = "payload_too_large"


class PeerError(BridgeError):
    http_status = 400
    sip_status = 400
    type = "invalid_request_error"
    code: str | None = "invalid_value"


class SipError(PeerError):
    """`status` is what RFC 3261 names as the answer; None means drop in silence."""

    def __init__(self, message: str, *, status: int | None = 400) -> None:
        super().__init__(message)
        self.status = status


class SdpError(PeerError):
    sip_status = 488
    code: str | None = "invalid_offer"


class RtpError(PeerError):
    pass


class OverloadedError(BridgeError):
    http_status = 503
    sip_status = 503
    code: str | None = "overloaded"


class BackendError(BridgeError):
    http_status = 502
    sip_status = 503
    code: str | None = "backend_unavailable"


class BackendBusy(BackendError):
    http_status = 429
    sip_status = 480
    code: str | None = "rate_limit_exceeded"

"""Bodies of the REST endpoints, around the session objects of realtime/session_config."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.api.errors import invalid_body

DECLINE = 603


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def read(cls, value: dict[str, object]) -> Self:
        """Raises RequestError with OpenAI's code and param."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise invalid_body(error) from None


class RejectBody(Body):
    status_code: Annotated[int, Field(ge=300, le=699)] | None = None


class ReferBody(Body):
    """`after` is ours: "playout" lets the agent finish what it is saying. So is `replaces`: the
    id of another call, in which the caller takes our place; `target_uri` may be left out then."""

    target_uri: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    after: Literal["playout"] | None = None
    replaces: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class DialBody(Body):
    """A call to make, as OpenAI's Live API shapes its SIP transport."""

    transport: dict[str, Any]
    session: dict[str, Any] | None = None


class ExpiresAfter(Body):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=10, le=7200)] = 600


class BetaSecret(Body):
    """One endpoint of the beta called it expires_after, the other expires_at."""

    expires_after: ExpiresAfter | None = None
    expires_at: ExpiresAfter | None = None


class ClientSecretBody(Body):
    expires_after: ExpiresAfter | None = None
    session: dict[str, Any] | None = None


def layered(
    base: Mapping[str, object] | None, override: Mapping[str, object] | None
) -> Mapping[str, object] | None:
    """`override` over `base`: `audio` merges per direction and key, every other key is replaced."""
    if not base or not override:
        return override or base
    merged = {**base, **override}
    ours, theirs = base.get("audio"), override.get("audio")
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        merged["audio"] = {**ours, **theirs} | {
            side: {**ours[side], **theirs[side]}
            for side in ("input", "output")
            if isinstance(ours.get(side), Mapping) and isinstance(theirs.get(side), Mapping)
        }
    return merged

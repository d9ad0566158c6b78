"""The challenges a registrar has made, kept so that the next request can answer them unasked."""

import random
from dataclasses import dataclass

from bridge.sip.auth import (
    ANSWERED_IN,
    CHALLENGED_BY,
    Challenge,
    Credentials,
    answer,
    choose,
    next_nonce,
)
from bridge.sip.message import Response

MAX_ANSWERS = 2


@dataclass(slots=True)
class _Known:
    challenge: Challenge
    count: int = 0
    """How often its nonce has been used."""
    answers: int = 0
    """How many new challenges were answered in this exchange."""


class KnownChallenges:
    """One for the registrar and one for a proxy before it, each with its own count."""

    def __init__(self, credentials: Credentials | None, rng: random.Random) -> None:
        self._credentials = credentials
        self._rng = rng
        self._known: dict[str, _Known] = {}

    def begin(self) -> None:
        """A new exchange: what is known is answered at once, and may turn out to be too old."""
        for known in self._known.values():
            known.answers = 0

    def forget(self) -> None:
        """Another registrar has nonces of its own."""
        self._known.clear()

    def challenged(self, response: Response) -> bool:
        """True when the request is worth repeating with `lines`.

        A second challenge that is not stale means that the password is wrong.
        """
        source = CHALLENGED_BY.get(response.status)
        if source is None or self._credentials is None:
            return False
        challenge = choose(response.headers.get_all(source), self._credentials)
        known = self._known.pop(source, None)
        answers = known.answers if known else 0
        if challenge is None or answers >= MAX_ANSWERS or (answers and not challenge.stale):
            return False
        self._known[source] = _Known(challenge, 0, answers + 1)
        return True

    def accepted(self, response: Response) -> None:
        """Take over the `nextnonce` of a 2xx."""
        nonce = next_nonce(response)
        known = self._known.get("www-authenticate")
        if nonce is not None and known is not None:
            known.challenge = known.challenge.with_nonce(nonce)
            known.count = 0

    def lines(self, method: str, uri: str, body: bytes) -> list[tuple[str, str]]:
        """Headers for one request: each call uses up a nonce count."""
        found: list[tuple[str, str]] = []
        for source, known in self._known.items():
            assert self._credentials is not None
            known.count += 1
            value = answer(
                known.challenge, method, uri, body, self._credentials, self._rng, known.count
            )
            found.append((ANSWERED_IN[source], str(value)))
        return found

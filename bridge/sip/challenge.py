"""Answers to the 401 and 407 that one request of ours meets."""

import random
from dataclasses import dataclass, field

from bridge.sip.auth import Credentials, authorise
from bridge.sip.message import Request, Response

MAX_ANSWERS = 2


@dataclass(eq=False, slots=True)
class Challenged:
    """A wrong password is not tried for ever: two answers, one for the proxy and one behind it."""

    credentials: Credentials | None
    rng: random.Random
    answers: dict[str, str] = field(default_factory=dict)
    tries: int = 0

    def answer(self, request: Request, response: Response) -> bool:
        """True when `lines` have what a new try needs."""
        if self.credentials is None or self.tries >= MAX_ANSWERS:
            return False
        answer = authorise(
            response, request.method, request.uri, request.body, self.credentials, self.rng
        )
        if answer is None:
            return False
        self.tries += 1
        self.answers[answer[0]] = answer[1]
        return True

    @property
    def lines(self) -> list[tuple[str, str]]:
        return list(self.answers.items())

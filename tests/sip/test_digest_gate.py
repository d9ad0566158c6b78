import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bridge.sip.auth import Authorization, Challenge, Credentials, answer, authorise
from bridge.sip.digest_gate import DigestGate, GateLimits
from bridge.sip.message import Headers, Rejection, Request, Response

ALICE = Credentials("alice", "wonderland", "example.com")
PASSWORDS = {"alice": "wonderland", 'b"ob': "zanzibar"}
HOST = "192.0.2.7"
URI = "sip:example.com"


def make_gate(
    limits: GateLimits | None = None, algorithms: tuple[str, ...] = ("SHA-256", "MD5")
) -> DigestGate:
    return DigestGate(
        "example.com", PASSWORDS.get, random.Random(1), algorithms=algorithms, limits=limits
    )


def register(*authorizations: object, body: bytes = b"") -> Request:
    headers = Headers(("Authorization", str(value)) for value in authorizations)
    return Request("REGISTER", URI, headers, body)


def rejected(found: Rejection | None, status: int = 401) -> Rejection:
    assert found is not None
    assert found.status == status
    return found


def challenges(rejection: Rejection) -> list[Challenge]:
    return [
        Challenge.parse(value) for name, value in rejection.headers if name == "WWW-Authenticate"
    ]


def solve(gate: DigestGate, now: float, *, host: str = HOST, count: int = 1) -> Authorization:
    """A right answer to a fresh challenge."""
    challenge = challenges(rejected(gate.check(register(), host, now)))[0]
    return answer(challenge, "REGISTER", URI, b"", ALICE, random.Random(2), count)


def guess(gate: DigestGate, now: float, host: str = HOST) -> Rejection | None:
    wrong = replace(solve(gate, now, host=host), response="0" * 64)
    return gate.check(register(wrong), host, now)


def test_offers_the_stronger_hash_first() -> None:
    offered = challenges(rejected(make_gate().check(register(), HOST, 0.0)))
    assert [challenge.algorithm for challenge in offered] == ["SHA-256", "MD5"]
    assert {challenge.qop for challenge in offered} == {("auth", "auth-int")}
    assert not any(challenge.stale for challenge in offered)


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5", "MD5-sess"])
def test_lets_our_own_client_in(algorithm: str) -> None:
    gate = make_gate(algorithms=(algorithm,))
    rejection = rejected(gate.check(register(), HOST, 10.0))
    response = Response(401, "Unauthorized", Headers(rejection.headers))
    for count in (1, 2, 9):
        found = authorise(response, "REGISTER", URI, b"", ALICE, random.Random(3), count)
        assert found is not None
        assert gate.identify(register(found[1]), HOST, 10.0 + count) == "alice"
    assert gate.stats.admitted == 3


def test_user_names_with_quotes() -> None:
    gate = make_gate()
    challenge = challenges(rejected(gate.check(register(), HOST, 0.0)))[0]
    bob = Credentials('b"ob', "zanzibar")
    authorization = answer(challenge, "REGISTER", URI, b"", bob, random.Random())
    assert gate.identify(register(authorization), HOST, 0.0) == 'b"ob'


def test_body_integrity() -> None:
    gate = make_gate()
    challenge = replace(
        challenges(rejected(gate.check(register(), HOST, 0.0)))[0], qop=("auth-int",)
    )
    authorization = answer(challenge, "REGISTER", URI, b"v=0", ALICE, random.Random())
    rejected(gate.check(register(authorization, body=b"v=1"), HOST, 0.0))
    assert gate.check(register(authorization, body=b"v=0"), HOST, 0.0) is None


def test_replay_is_stale() -> None:
    gate = make_gate()
    authorization = solve(gate, 0.0, count=5)
    assert gate.check(register(authorization), HOST, 0.0) is None
    for _ in range(20):
        again = rejected(gate.check(register(authorization), HOST, 1.0))
        assert challenges(again)[0].stale
    assert not gate.blocked(HOST, 1.0)
    renumbered = replace(authorization, nc=6)
    assert not challenges(rejected(gate.check(register(renumbered), HOST, 1.0)))[0].stale


def test_old_nonce_is_stale_whatever_the_password() -> None:
    gate = make_gate()
    authorization = solve(gate, 0.0)
    wrong = replace(authorization, response="0" * 64)
    for value in (authorization, wrong):
        assert challenges(rejected(gate.check(register(value), HOST, 301.0)))[0].stale
    assert gate.check(register(authorization), HOST, 299.0) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda nonce: "0" * 12 + nonce[12:],
        lambda nonce: nonce[:-1] + ("0" if nonce[-1] != "0" else "1"),
        lambda nonce: nonce[:-1],
        lambda nonce: "é" * len(nonce),
        lambda nonce: "x",
    ],
)
def test_foreign_nonce_is_stale_and_not_counted(spoil: Callable[[str], str]) -> None:
    gate = make_gate()
    authorization = solve(gate, 5.0)
    spoiled = replace(authorization, nonce=spoil(authorization.nonce))
    for _ in range(20):
        assert challenges(rejected(gate.check(register(spoiled), HOST, 5.0)))[0].stale
    assert not gate.blocked(HOST, 5.0)


def test_nonce_belongs_to_the_host_it_was_sent_to() -> None:
    gate = make_gate()
    authorization = solve(gate, 0.0)
    elsewhere = rejected(gate.check(register(authorization), "192.0.2.8", 0.0))
    assert challenges(elsewhere)[0].stale


def test_ten_failures_in_a_minute_shut_a_host_out() -> None:
    gate = make_gate()
    for second in range(10):
        assert not gate.blocked(HOST, float(second))
        rejected(guess(gate, float(second)))
    assert gate.blocked(HOST, 9.0)
    rejected(gate.check(register(), HOST, 10.0), 403)
    assert not gate.blocked("192.0.2.8", 10.0)
    assert not gate.blocked(HOST, 309.1)
    assert gate.check(register(solve(gate, 310.0)), HOST, 310.0) is None
    rejected(guess(gate, 310.0))
    assert not gate.blocked(HOST, 310.0)


def test_slow_failures_do_not() -> None:
    gate = make_gate()
    for number in range(40):
        rejected(guess(gate, number * 7.0))
    assert not gate.blocked(HOST, 280.0)


def test_unknown_user_looks_like_a_wrong_password() -> None:
    gate = make_gate()
    challenge = challenges(rejected(gate.check(register(), HOST, 0.0)))[0]
    stranger = answer(challenge, "REGISTER", URI, b"", Credentials("mallory", ""), random.Random())
    unknown = rejected(gate.check(register(stranger), HOST, 0.0))
    wrong = rejected(guess(gate, 0.0))
    assert (unknown.status, unknown.reason) == (wrong.status, wrong.reason)
    assert [c.algorithm for c in challenges(unknown)] == [c.algorithm for c in challenges(wrong)]
    # The password nobody has is no password either.
    for secret in ("", "\x00"):
        forged = answer(
            challenge, "REGISTER", URI, b"", Credentials("mallory", secret), random.Random()
        )
        rejected(gate.check(register(forged), HOST, 0.0))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ('qop=auth, nc=00000001, cnonce="c"', 401),
        ("", 400),
        ('qop=auth, nc=1, cnonce="c"', 400),
        ('qop=auth-conf, nc=00000001, cnonce="c"', 400),
        ('qop=auth, nc=00000001, cnonce="c", algorithm=SHA-512-256', 401),
    ],
)
def test_odd_answers(change: str, status: int) -> None:
    gate = make_gate()
    nonce = challenges(rejected(gate.check(register(), HOST, 0.0)))[0].nonce
    tail = f", {change}" if change else ""
    value = (
        f'Digest username="alice", realm="example.com", nonce="{nonce}", uri="{URI}",'
        f' response="00"{tail}'
    )
    rejected(gate.check(register(value), HOST, 0.0), status)


def test_md5_is_refused_where_it_is_not_offered() -> None:
    gate = make_gate(algorithms=("SHA-256",))
    challenge = challenges(rejected(gate.check(register(), HOST, 0.0)))[0]
    weaker = replace(challenge, algorithm="MD5")
    authorization = answer(weaker, "REGISTER", URI, b"", ALICE, random.Random())
    rejected(gate.check(register(authorization), HOST, 0.0))
    assert gate.stats.admitted == 0


def test_finds_its_own_realm_among_others() -> None:
    gate = make_gate()
    other = replace(solve(gate, 0.0), realm="elsewhere.com")
    rejected(gate.check(register(other), HOST, 0.0))
    assert gate.check(register("Basic eA==", other, solve(gate, 0.0)), HOST, 0.0) is None
    rejected(gate.check(register("Basic eA=="), HOST, 0.0), 400)


def test_memory_is_bounded() -> None:
    gate = make_gate(GateLimits(max_nonces=3, max_sources=3))
    answers = []
    for second in range(5):
        authorization = solve(gate, float(second))
        answers.append(authorization)
        assert gate.check(register(authorization), HOST, float(second)) is None
    # Two were forgotten; they must not work a second time.
    for authorization in answers:
        assert challenges(rejected(gate.check(register(authorization), HOST, 5.0)))[0].stale
    for number in range(10):
        rejected(guess(gate, 6.0, f"192.0.2.{number}"))
    assert len(gate._used) == 3
    assert len(gate._sources) == 3


class Replaying(RuleBasedStateMachine):
    """However answers are repeated, renumbered and delayed, each one works at most once."""

    @initialize()
    def open(self) -> None:
        self.gate = make_gate(GateLimits(max_nonces=4, failures=1000))
        self.now = 0.0
        self.seen: list[Authorization] = []
        self.spent: set[tuple[str, int | None]] = set()

    @rule(count=st.integers(1, 6), host=st.sampled_from(["a", "b"]))
    def solve(self, count: int, host: str) -> None:
        self.seen.append(solve(self.gate, self.now, host=host, count=count))

    @rule(index=st.integers(0, 20), host=st.sampled_from(["a", "b"]), nc=st.integers(0, 6))
    def send(self, index: int, host: str, nc: int) -> None:
        if not self.seen:
            return
        authorization = self.seen[index % len(self.seen)]
        if nc:
            challenge = Challenge("example.com", authorization.nonce, "SHA-256", ("auth",))
            authorization = answer(challenge, "REGISTER", URI, b"", ALICE, random.Random(4), nc)
        if self.gate.check(register(authorization), host, self.now) is None:
            key = (authorization.nonce, authorization.nc)
            assert key not in self.spent
            self.spent.add(key)

    @rule(seconds=st.floats(0, 200))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nobody_guessed(self) -> None:
        assert not hasattr(self, "gate") or self.gate.stats.failed == 0


TestReplaying = Replaying.TestCase
TestReplaying.settings = settings(max_examples=40, stateful_step_count=30)

"""Twenty minutes of calls between two agents of ours, kept up by session timers (RFC 4028)."""

from dataclasses import dataclass

import pytest

from bridge.sip.agent import AgentConfig
from bridge.sip.events import CallEnded, ReofferDone
from bridge.sip.session_timer import expiry_delay
from bridge.sip.timers import GIVE_UP
from tests.sip.pair import Pair, Side

TWENTY_MINUTES = 1200.0


@dataclass(frozen=True)
class Timed:
    """Seconds of the interval, and the refresher by RFC 4028's names."""

    seconds: int
    refresher: str

    def call(self) -> Pair:
        """Who asks decides who refreshes: the caller for `uac`, the callee for `uas`."""
        by_caller = self.refresher == "uac"
        pair = Pair(AgentConfig(), AgentConfig(session_expires=0 if by_caller else self.seconds))
        pair.call(session_expires=self.seconds if by_caller else 0)
        return pair

    def sides(self, pair: Pair) -> tuple[Side, Side]:
        """Who refreshes, and who waits for it."""
        if self.refresher == "uac":
            return pair.caller, pair.callee
        return pair.callee, pair.caller


TIMED = [Timed(seconds, role) for seconds in (90, 1800) for role in ("uac", "uas")]


def refreshes(pair: Pair, since: float = 0.0) -> list[float]:
    """When they were sent."""
    return [at for at, _ in pair.line.requests("UPDATE", "INVITE")[1:] if at >= since]


@pytest.fixture(params=TIMED, ids=lambda timed: f"{timed.seconds}-{timed.refresher}")
def timed(request: pytest.FixtureRequest) -> Timed:
    assert isinstance(request.param, Timed)
    return request.param


def test_refreshed_at_half_the_interval_for_twenty_minutes(timed: Timed) -> None:
    pair = timed.call()
    (answered,) = [at for at, _ in pair.line.requests("ACK")]
    pair.wait(TWENTY_MINUTES)
    half = timed.seconds / 2
    sent = refreshes(pair)
    assert len(sent) == {90: 26, 1800: 1}[timed.seconds]
    gaps = [later - earlier for earlier, later in zip([answered, *sent], sent, strict=False)]
    assert gaps == pytest.approx([half] * len(sent), abs=0.01)
    refreshing, waiting = timed.sides(pair)
    senders = {m.top_via.host for _, m in pair.line.requests("UPDATE")}
    assert senders == {refreshing.flow.local[0]}
    for _, update in pair.line.requests("UPDATE"):
        # The role is told from where the request stands: its sender is the UAC of it.
        assert update.session_expires == (timed.seconds, "uac")
        assert update.body == b""
    assert pair.caller.is_up
    assert pair.callee.is_up
    assert len(pair.caller.agent) == len(pair.callee.agent) == 1
    assert not refreshing.heard(ReofferDone)
    assert not waiting.heard(ReofferDone)


def test_hung_up_on_when_the_refresher_is_gone(timed: Timed) -> None:
    pair = timed.call()
    pair.wait(TWENTY_MINUTES)
    refreshing, waiting = timed.sides(pair)
    refreshing.restart()
    ends = refreshes(pair)[-1] + expiry_delay(timed.seconds)
    pair.wait(ends - 0.01 - pair.now)
    assert waiting.is_up
    assert pair.line.requests("BYE") == []
    pair.wait(0.1)
    assert waiting.heard(CallEnded) == [CallEnded(waiting.usage, "expired")]
    ((at, bye),) = pair.line.requests("BYE")
    assert at == pytest.approx(ends, abs=0.01)
    assert bye.top_via.host == waiting.flow.local[0]
    assert len(pair.line.requests("UPDATE")) == len(refreshes(pair))
    pair.wait(100)
    pair.assert_nothing_left()


def test_both_let_go_when_refreshes_are_lost(timed: Timed) -> None:
    pair = timed.call()
    pair.wait(TWENTY_MINUTES)
    pair.line.cut = lambda data: data.startswith((b"UPDATE ", b"INVITE "))
    last = refreshes(pair)[-1]
    pair.wait(timed.seconds)
    refreshing, waiting = timed.sides(pair)
    # A long interval leaves time to see that the refresh itself is never answered.
    ends = min(expiry_delay(timed.seconds), timed.seconds / 2 + GIVE_UP)
    assert pair.line.requests("BYE")[0][0] - last == pytest.approx(ends, abs=0.02)
    causes = [side.heard(CallEnded)[0].cause for side in (refreshing, waiting)]
    assert causes == {90: ["bye", "expired"], 1800: ["timeout", "bye"]}[timed.seconds]
    pair.wait(100)
    pair.assert_nothing_left()


def test_both_let_go_when_the_line_is_dead(timed: Timed) -> None:
    pair = timed.call()
    pair.wait(TWENTY_MINUTES)
    pair.line.cut = lambda data: True
    pair.wait(timed.seconds)
    refreshing, waiting = timed.sides(pair)
    (ended,) = refreshing.heard(CallEnded)
    assert ended.cause == {90: "expired", 1800: "timeout"}[timed.seconds]
    assert waiting.heard(CallEnded) == [CallEnded(waiting.usage, "expired")]
    pair.wait(100)
    pair.assert_nothing_left()

from bridge.sip.grammar import FORBIDDEN_IN_LINE
from bridge.sip.reasons import REASONS


def test_reasons_fit_a_status_line() -> None:
    for status, reason in REASONS.items():
        assert 100 <= status <= 699
        assert reason
        assert not FORBIDDEN_IN_LINE.search(reason)

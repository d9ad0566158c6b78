from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.ledger import Ledger, shape
from tests.verdict import judge

DELTA: dict[str, Any] = {
    "type": "response.output_text.delta",
    "event_id": "event_1",
    "response_id": "resp_1",
    "item_id": "item_1",
    "output_index": 0,
    "content_index": 0,
    "delta": "Hello",
}
HELD: dict[str, Any] = {"type": "transport.held", "event_id": "event_3"}


def note(folder: Path, kind: str, *events: dict[str, Any]) -> None:
    with closing(Ledger(folder, kind)) as ledger:
        for event in events:
            ledger.write(event)


def test_all_are_counted_and_each_shape_is_judged_once(tmp_path: Path) -> None:
    note(tmp_path, "told", DELTA, {**DELTA, "delta": "there", "event_id": "event_9"})
    note(tmp_path, "told", DELTA, HELD)
    note(tmp_path, "heard", DELTA)
    verdict = judge(tmp_path)
    assert verdict is not None
    assert verdict.faults == ()
    assert verdict.lines[0].startswith("4 events of 2 types told, 1 of them seen to arrive")
    assert verdict.lines[1:] == ("  not OpenAI's, for who asked: transport.held (1)",)


def test_a_run_without_events_has_no_verdict(tmp_path: Path) -> None:
    assert judge(tmp_path) is None


@pytest.mark.parametrize(
    "event",
    [
        {**DELTA, "output_index": 0.5},
        {**DELTA, "event_id": None},
        {**DELTA, "type": "response.text.delta"},
        {**HELD, "event_id": ""},
    ],
)
def test_what_a_client_would_not_take_is_told(tmp_path: Path, event: dict[str, Any]) -> None:
    note(tmp_path, "told", DELTA, event)
    verdict = judge(tmp_path)
    assert verdict is not None
    assert verdict.faults
    assert all(event["type"] in fault for fault in verdict.faults)
    assert "INVALID" in verdict.lines[0]


def test_a_shape_is_all_but_ids_words_and_amounts() -> None:
    assert shape(DELTA) == shape({**DELTA, "delta": "", "output_index": 7})
    for other in (
        {**DELTA, "output_index": 7.0},
        {**DELTA, "output_index": -1},
        {**DELTA, "output_index": True},
        {**DELTA, "delta": None},
        {**DELTA, "more": 1},
        {**DELTA, "type": "error"},
    ):
        assert shape(other) != shape(DELTA)

"""What the table says of a row, and what it makes of peers."""

import pytest

from tests.bench import table, targets
from tests.bench.__main__ import DEFAULT, minutes, parse, runs
from tests.bench.measure import Row


def row(subject: str, kind: str, calls: int, cpu: float) -> Row:
    media = {
        "spacing_ms": {"p50": 20.0, "p99": 21.0, "p99.9": None},
        "latency_ms": {"p50": 10.0, "p99": 20.0},
        "own_late_ms": {"p99": 1.0},
        "lost": 3,
    }
    return Row(subject, kind, calls, up=calls, cpu_percent=cpu, media=media)


def test_who_answers_is_told() -> None:
    with_model = row("bridge", "sip", 200, 0.2)
    with_model.model = True
    assert table.cells(with_model)[0] == "bridge, SIP"
    assert table.cells(row("bridge", "sip", 200, 0.1))[0] == "bridge, SIP, echo"
    peer = row("aiortc 1.16 echo", "webrtc-json", 8, 6.0)
    assert table.ratios([with_model, peer]) == []


def test_columns_line_up() -> None:
    lines = table.markdown([row("bridge", "sip", 200, 0.1234), row("aiortc", "x", 8, 6)]).split(
        "\n"
    )
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert "| 0.123 " in lines[2]
    assert "20.0 / 21.0 / -" in lines[2]


def test_peers_are_compared_with_calls_of_their_kind() -> None:
    rows = [
        row("bridge", "webrtc", 10, 1.0),
        row("bridge", "webrtc", 50, 0.5),
        row("bridge", "sip", 20, 0.2),
        row("aiortc 1.16 echo", "webrtc-json", 8, 6.0),
        row("Pipecat telephony", "twilio", 20, 1.0),
    ]
    first, second = table.ratios(rows)
    assert "6.0 times the CPU of ours at 10" in first
    assert "12.0 times that of ours at 50" in first
    assert "5.0 times the CPU of ours at 20" in second


def test_a_peer_that_did_not_run_is_not_compared() -> None:
    absent = Row("aiortc 1.16 echo", "webrtc-json", 8)
    assert table.ratios([row("bridge", "webrtc", 8, 1.0), absent]) == []


def test_results_name_machine_and_command() -> None:
    text = table.results(
        [row("bridge", "sip", 1, 1.0)],
        command="scripts/bench sip 1",
        date="2026-11-21",
        commit="abc",
        delta_ms=40,
        notes=["a note"],
    )
    assert "deltas of 40 ms" in text
    assert "scripts/bench sip 1" in text
    assert table.machine() in text
    assert text.endswith("- a note\n")


@pytest.mark.parametrize("length", ["0", "-20", "50"])
def test_deltas_are_of_whole_frames(length: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["sip", "1", "--delta-ms", length])
    assert f"--delta-ms {length}: a multiple of 20" in capsys.readouterr().err


def test_kinds_take_the_numbers_after_them() -> None:
    assert parse(["sip", "1", "200", "webrtc", "5"]).plan == [
        ("sip", 1),
        ("sip", 200),
        ("webrtc", 5),
    ]
    assert len(parse([]).plan) == sum(map(len, DEFAULT.values()))


@pytest.mark.parametrize("words", [["7"], ["h323"], ["sip", "0"], ["sip", "-1"]])
def test_what_is_no_plan_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(words)


def test_what_is_promised_must_hold_in_every_run() -> None:
    rows = [row("bridge", "sip", 200, cpu) for cpu in (0.2, 0.25)]
    assert targets.verdicts(rows) == []  # An echo is not what is promised.
    for each in rows:
        each.model = True
    rows[1].late_ms, rows[0].late_ms = 5.0, 4.9
    told = targets.verdicts(rows)
    assert (
        "kept: SIP, 200 calls: CPU % of a core per call at most 0.25 in 2 of 2 runs (0.2 to 0.25)"
        in told
    )
    assert "MISSED: SIP, 200 calls: tick late p99 ms below 5 in 1 of 2 runs (4.9 to 5)" in told


def test_what_was_not_measured_is_not_kept() -> None:
    down = Row("bridge", "webrtc", 50, model=True)
    assert targets.verdicts([]) == []
    assert all(line.startswith("MISSED") for line in targets.verdicts([down]) if "CPU" in line)


def test_peers_are_to_cost_a_multiple() -> None:
    rows = [row("bridge", "webrtc", 8, 1.0), row("aiortc 1.16 echo", "webrtc-json", 8, 4.0)]
    assert targets.verdicts(rows)[-1].startswith("MISSED: aiortc 1.16 echo at 8 calls")


def test_with_peers_ours_are_measured_at_as_many_calls() -> None:
    wanted = runs(parse(["sip", "200", "--peers", "--peer-calls", "6"]))
    echoes = [("sip", 20, 0.0, False), ("webrtc", 6, 0.0, False)]
    assert wanted == [("sip", 200, 0.0, True), *echoes]
    assert runs(parse(["sip", "20", "--echo", "--peers", "--peer-calls", "6"])) == echoes


def test_all_of_it_takes_half_an_hour() -> None:
    assert minutes(parse(["--targets", "--setup", "--peers"])) < 35

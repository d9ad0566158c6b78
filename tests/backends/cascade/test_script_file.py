from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.backends.cascade import script_file
from bridge.backends.cascade.script import Position, Target, advance, at, words_at
from bridge.errors import ConfigError

SMALL = """\
start: menu
agree: {phrases: ["yes"], dtmf: "1"}
refuse: {phrases: ["no"], dtmf: "2"}
give_up: {after: 2, to: end}
hours:
  timezone: Europe/Berlin
  days: {mon-fri: "9:00-17:00"}
  holidays: {"12-25": closed}
  closed: end
departments:
  sales:
    phrases: ["sales"]
    dtmf: "7"
    confirm: "Sales?"
    say: "One moment."
    target: "tel:+4930123"
    failed: back
    closed: end
  night:
    dtmf: "8"
    target: "sip:porter@example.com"
    days: {mon-sun: "0:00-24:00"}
    failed: back
    meanwhile: end
reasons: {"486 600": "the line is busy", other: "nobody can be reached"}
states:
  menu:
    say: Welcome.
    departments: [sales, night]
    expect: {door: {phrases: ["open the door", "door"], dtmf: "1"}}
    on: {door: end}
  back:
    say: "I am sorry, {why}."
    records: {then: end, min_s: 2}
  end: {say: Bye., hangs_up: true}
"""
TOOLS = frozenset(("transfer_call", "take_message"))
OPEN, SHUT = datetime(2026, 11, 23, 10, tzinfo=UTC), datetime(2026, 11, 23, 20, tzinfo=UTC)


def write(folder: Path, text: str = SMALL) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("to: end", "to: nowhere", 4, "give_up.to: there is no state nowhere"),
        ("door: end", "door: nowhere", 31, "states.menu.on.door: there is no state nowhere"),
        ("on: {door: end}", "on: {}", 27, "states.menu: door must be in both expect and on"),
        ("say: Bye.", "says: Bye.", 35, "states.end.says: Object contains unknown field `says`"),
        ("    say: Welcome.", "    again: Hm.", 27, "states.menu: Object missing required field"),
        ("after: 2", "after: two", 4, "give_up.after: Expected `int`"),
        ("start: menu", "start menu", 2, ""),
        ("states:", "states: [", 28, ""),
        ("  back:", "  menu:", 32, "states: menu is here twice"),
        ("Europe/Berlin", "Europe/Bern", 6, "hours.timezone: timezone Europe/Bern"),
        ("9:00-17:00", "9-17", 7, "hours.days.mon-fri: 9-17 is not as 9:00-17:00"),
        ('"12-25"', '"13-25"', 8, "hours.holidays.13-25: 13-25 is no date"),
        ("0:00-24:00", "0:00-25:00", 22, "departments.night.days.mon-sun: 25:00 is no"),
        ("tel:+4930123", "4930123", 16, "departments.sales.target: no tel: and no sip: URI"),
        ("meanwhile: end", "meanwhile: x", 24, "departments.night.meanwhile: there is no state x"),
        ("[sales, night]", "[sales, x]", 29, "states.menu.departments.1: there is no department x"),
        ('dtmf: "8"', 'dtmf: "7"', 27, "states.menu: 7 means both sales and night"),
        ('"486 600"', '"486 busy"', 25, "reasons.486 busy: busy is no SIP status"),
        ("min_s: 2", "min_s: 200", 34, "states.back.records: max_s must be above min_s"),
        ("min_s: 2", "finish: x", 34, "states.back.records.finish: not only keys"),
        ("min_s: 2", "silence_s: 0", 34, "states.back.records.silence_s: it must be above 0"),
        ("min_s: 2", "min_s: long", 34, "states.back.records.min_s: Expected `float`"),
    ],
)
def test_a_wrong_script_is_refused_with_the_key_and_the_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    assert old in SMALL
    with pytest.raises(ConfigError) as caught:
        script_file.load(write(tmp_path, SMALL.replace(old, new, 1)))
    told = caught.value.message
    assert told.startswith(f"script small.yaml, line {line}: {message}"), told
    assert "\n" not in told


def test_no_script_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        script_file.load(tmp_path / "none.yaml")
    for text in ("", "- 1", "a: &a [*a]"):
        with pytest.raises(ConfigError, match=r"script small\.yaml"):
            script_file.load(write(tmp_path, text))


def test_a_department_is_an_intent_that_transfers(tmp_path: Path) -> None:
    script = script_file.load(write(tmp_path))
    asked = advance(script, Position("menu"), "sales", TOOLS)
    assert words_at(script, asked) == "Sales?"
    there = advance(script, asked, "yes", TOOLS)
    assert there.arrived_by == Target(
        to="back",
        say="One moment.",
        tool="transfer_call",
        arguments={"target": "tel:+4930123"},
        failed="back",
        closed="end",
    )
    assert advance(script, Position("menu"), "[dtmf] 8", TOOLS).state == "end"
    assert advance(script, Position("menu"), "door", TOOLS).state == "end"


def test_a_department_may_be_open_when_the_house_is_not(tmp_path: Path) -> None:
    script = script_file.load(write(tmp_path))
    assert at(script, OPEN) == script
    shut = at(script, SHUT)
    assert shut.start == "end"
    assert shut.states["menu"].on["sales"] == Target(to="end")
    assert shut.states["menu"].on["night"] == script.states["menu"].on["night"]
    christmas = at(script, datetime(2026, 12, 25, 10, tzinfo=UTC))
    assert christmas.start == "end"
    assert christmas.states["menu"].on["sales"] == Target(to="end")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("486", "I am sorry, the line is busy."),
        ("600", "I am sorry, the line is busy."),
        ("480", "I am sorry, nobody can be reached."),
        ("", "I am sorry, nobody can be reached."),
    ],
)
def test_the_reason_of_a_failed_transfer_is_told(tmp_path: Path, status: str, said: str) -> None:
    script = script_file.load(write(tmp_path))
    assert words_at(script, Position("back", status=status)) == said

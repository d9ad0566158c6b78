from pathlib import Path

import pytest

from bridge.backends.cascade.script import Position, Script, advance, words_at
from bridge.backends.cascade.scripted import load

NO_TOOLS: frozenset[str] = frozenset()

SMALL = """
start: menu
agree: {phrases: ["yes"], dtmf: "1"}
refuse: {phrases: ["no"], dtmf: "2"}
give_up: {after: 2, to: end}
states:
  menu:
    say: Welcome.
    expect: {door: {phrases: ["open the door", "door"], dtmf: "1"}}
    on: {door: end}
  end: {say: Bye., hangs_up: true}
"""


def walk(script: Script, *turns: str, tools: frozenset[str] = NO_TOOLS) -> Position:
    here = Position(script.start)
    for turn in turns:
        here = advance(script, here, turn, tools)
    return here


@pytest.fixture(scope="module")
def receptionist() -> Script:
    return load("scripted:receptionist")


@pytest.mark.parametrize(
    ("turns", "state"),
    [
        (("sales", "yes"), "sales"),
        (("I would like sales, please.", "Yes please!"), "sales"),
        (("[dtmf] 2", "[dtmf] 1"), "support"),
        (("[dtmf] 21",), "support"),
        (("opening hours",), "hours"),
        (("[dtmf] 3#",), "hours"),
        (("leave a message", "yes"), "message"),
        (("leave a message", "yes", "la la la"), "taken"),
        (("leave a message", "yes", "(inaudible)", "goodbye"), "goodbye"),
        (("support", "no", "goodbye"), "goodbye"),
        (("repeat",), "menu"),
        (("what", "what", "what"), "lost"),
        (("what", "what", "opening hours", "what"), "hours"),
    ],
)
def test_where_turns_lead(receptionist: Script, turns: tuple[str, ...], state: str) -> None:
    assert walk(receptionist, *turns).state == state


def test_nothing_is_done_before_a_yes(receptionist: Script) -> None:
    asked = walk(receptionist, "sales")
    assert (asked.state, asked.asked) == ("menu", "sales")
    assert words_at(receptionist, asked) == "Sales. Is that right?"
    assert words_at(receptionist, walk(receptionist, "sales", "no")).startswith("All right.")


def test_an_unclear_answer_is_asked_again(receptionist: Script) -> None:
    unclear = walk(receptionist, "sales", "hm")
    assert words_at(receptionist, unclear).startswith("Please say yes or no")
    assert walk(receptionist, "sales", "hm", "yes").state == "sales"


def test_silence_and_unknown_words_are_answered_differently(receptionist: Script) -> None:
    assert "only know my menu" in words_at(receptionist, walk(receptionist, "weather"))
    assert "did not hear" in words_at(receptionist, walk(receptionist, ""))
    assert "press one" in words_at(receptionist, walk(receptionist, "weather", "weather"))


def test_a_tool_is_called_only_if_the_session_has_it(receptionist: Script) -> None:
    there = walk(receptionist, "sales", "yes", tools=frozenset({"transfer_call"}))
    assert there.state == "transferred"
    assert there.arrived_by is not None
    assert there.arrived_by.arguments == {"target": "sales"}
    assert walk(receptionist, "sales", "yes").arrived_by is None


def test_every_prompt_is_short_enough_for_a_telephone(receptionist: Script) -> None:
    for name, state in receptionist.states.items():
        for prompt in (state.say, state.again, *state.on_nomatch, *state.on_noinput):
            assert len(prompt.split()) <= 34, name


def test_no_phrase_means_two_things(receptionist: Script) -> None:
    for state in receptionist.states.values():
        phrases = [phrase for intent in state.expect.values() for phrase in intent.phrases]
        keys = [key for intent in state.expect.values() for key in intent.dtmf]
        assert len(phrases) == len(set(phrases))
        assert len(keys) == len(set(keys))


def test_a_script_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    script = load("scripted:receptionist", str(path))
    assert walk(script, "please open the door").state == "end"
    assert walk(script, "what", "what").state == "end"

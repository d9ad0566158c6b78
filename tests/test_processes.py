from pathlib import Path

from tests.processes import ALONE


def test_what_runs_alone_is_there() -> None:
    root = Path(__file__).parents[1]
    assert [name for name in ALONE if not (root / name).is_file()] == []

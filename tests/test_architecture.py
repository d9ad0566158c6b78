"""The rules of the house, held by the test run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import __version__
from bridge.settings import load

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "bridge").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINE_WALL = 500


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_layers() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_no_file_above_the_wall(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINE_WALL


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_tasks_have_an_owner(path: Path) -> None:
    stray = re.findall(r"\b(?:create_task|ensure_future)\(", path.read_text(encoding="utf-8"))
    assert len(stray) == (1 if path.name == "tasks.py" else 0)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nobody_catches_everything(path: Path) -> None:
    broad = re.findall(r"except(?: Base| )?Exception\b|except:", path.read_text(encoding="utf-8"))
    assert len(broad) == (1 if path.name in {"tasks.py", "cli.py"} and broad else 0)


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_nothing_is_mocked(path: Path) -> None:
    if path.name == Path(__file__).name:
        return
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"unittest\.mock|\bMagicMock\b|monkeypatch\.setattr", text)


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_unit_tests_do_not_sleep(path: Path) -> None:
    if {"e2e", "interop", "bench", "peers"} & set(path.parts) or path.name == Path(__file__).name:
        return
    text = path.read_text(encoding="utf-8")
    # On a loop whose time jumps, sleeping takes none.
    assert "VirtualLoop" in text or not re.search(r"\bsleep\((?!0\))", text)


def test_there_are_config_files() -> None:
    assert (ROOT / "config" / "bridge.toml").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=name_of)
def test_config_files_load(path: Path) -> None:
    load(path, environment={})


def test_the_changelog_knows_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert headings
    assert released[:1] in ([], [__version__])


def test_the_tree_speaks_of_the_product_only() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    for path in paths:
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".js", ".html"} and path.exists():
            assert not re.search(r"/(?:work|farm)/", path.read_text(encoding="utf-8")) or (
                path.name == Path(__file__).name
            ), path

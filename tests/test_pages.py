"""The pages are true of the tree: links, maps, commands, and the names that examples import."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import kitae_marl
from kitae_marl.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    "kitae_marl/README.md",
    "envs/README.md",
    "examples/README.md",
    "examples/QUESTIONS.md",
]
MAPS = {"kitae_marl/README.md": "kitae_marl", "envs/README.md": "kitae_envs"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text(page))


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code of one language."""
    return [code for kind, code in FENCE.findall(text(page)) if kind == language]


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading: no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: str) -> list[str]:
    return [anchor(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)]


def links(page: str) -> list[str]:
    """Where a page leads to, other sites left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not target.startswith(("http:", "https:"))]


def named_in_map(page: str) -> list[str]:
    """Paths of the files in the map of a page.

    A line holds names, two spaces or more, and words; a name that ends in a slash is the folder of
    the lines indented by it. Files may stand on the line of their folder.
    """
    folder = MAPS[page]
    (lines,) = [code.splitlines() for code in blocks(page, "") if code.startswith(f"{folder}/\n")]
    found, path = [], [folder]
    for line in lines[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        path = path[:depth]
        for word in line.split():
            if word.endswith("/"):
                path.append(word.rstrip("/"))
            elif re.fullmatch(r"\w+\.(py|json)", word.rstrip(",;:")):
                found.append("/".join([*path, word.rstrip(",;:")]))
    return found


def files(folder: str) -> list[str]:
    """Modules of a package and its tables, but the faces of folders."""
    top = ROOT if folder == "kitae_marl" else ROOT / "envs"
    found = [p for kind in ("py", "json") for p in (top / folder).rglob(f"*.{kind}")]
    return [p.relative_to(top).as_posix() for p in found if p.name != "__init__.py"]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    assert links(page)
    for target in links(page):
        path, _, section = target.partition("#")
        assert not Path(path).is_absolute(), target
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), target
        if section:
            assert section in anchors(there.resolve().relative_to(ROOT).as_posix()), target


@pytest.mark.parametrize("page", MAPS)
def test_every_file_is_in_the_map_once_and_every_file_of_the_map_is_there(page):
    assert sorted(named_in_map(page)) == sorted(files(MAPS[page]))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_of_the_program(page):
    told = re.findall(r"kitae-marl\s+([a-z]\w*)", text(page))
    assert not [name for name in told if name not in COMMANDS]


def test_the_first_page_lists_every_command():
    listed = re.findall(r"^\| `kitae-marl ([a-z]+)", text("README.md"), re.MULTILINE)
    assert set(listed) == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_what_examples_import_from_the_package_is_public(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "kitae_marl":
                assert not {alias.name for alias in node.names} - set(kitae_marl.__all__)


def test_the_first_page_is_short_and_pictures_are_small():
    assert len(text("README.md").splitlines()) <= 150
    for picture in (ROOT / "examples" / "pictures").iterdir():
        assert picture.stat().st_size <= 60_000, picture

"""The reference pages come from the code and are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from corpus_builder import docs
from corpus_builder.cli import COMMANDS, pdid
from corpus_builder.config import Settings

HOW = "run: python -m corpus_builder.docs"


def test_settings_page_is_up_to_date(repository: Path) -> None:
    assert (repository / "docs" / "settings.md").read_text("utf-8") == docs.settings_page(), HOW


def test_cli_page_is_up_to_date(repository: Path) -> None:
    assert (repository / "docs" / "cli.md").read_text("utf-8") == docs.cli_page(), HOW


def test_every_setting_is_explained() -> None:
    page = docs.settings_page()
    for section in Settings.model_fields:
        fields = getattr(Settings(), section)
        names = type(fields).model_fields if hasattr(fields, "model_fields") else {section: None}
        for name in names:
            assert re.search(rf"^\| `{name}` \| `.+` \| .+ \| .{{10,}} \|$", page, re.M), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented_with_examples(repository: Path, name: str) -> None:
    page = (repository / "docs" / "cli.md").read_text("utf-8")
    command = pdid.get_command(click.Context(pdid, info_name="pdid"), name)
    assert command is not None
    assert f"\n## pdid {name}\n" in page
    entry = page.split(f"\n## pdid {name}\n")[1].split("\n## ")[0]
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert re.search(rf"^\s*(-\w, )?.*{re.escape(option)}\b", entry, re.M), f"pdid {name} {option}"
    assert "Example" in entry
    assert f"  pdid {name}" in entry


def test_links_between_the_documents_lead_somewhere(repository: Path) -> None:
    pages = [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]
    link = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
    links = [(page, found) for page in pages for found in link.findall(page.read_text("utf-8"))]
    assert len(links) > 5
    for page, found in links:
        assert (page.parent / found).exists(), f"{page.name} points at {found}"


def test_a_benchmark_that_needs_another_is_run_as_a_module(repository: Path) -> None:
    """`python benchmarks/X.py` has the folder benchmarks on its path, and not the one it lies in."""
    needing = [
        path for path in (repository / "benchmarks").glob("*.py") if "\nfrom benchmarks" in path.read_text("utf-8")
    ]
    assert len(needing) > 5
    pages = [*needing, repository / "README.md", *(repository / "docs").glob("*.md")]
    for page in pages:
        text = page.read_text("utf-8")
        assert not [path.name for path in needing if f"python benchmarks/{path.name}" in text], page.name

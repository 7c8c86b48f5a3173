"""Write the reference pages that come from the code: `python -m corpus_builder.docs [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from corpus_builder.cli import pdid
from corpus_builder.config import Settings

_MADE = "<!-- Made from the code by `python -m corpus_builder.docs`; edit the help texts there. -->\n"
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def cli_page() -> str:
    """docs/cli.md: the help of every command, as the terminal shows it at 100 columns."""
    parts = [
        f"{_MADE}# The command line\n",
        "Exit status: 0 all went well; 1 some source failed (the rest is committed); 2 wrong usage; 130 interrupted.",
        "Progress and messages go to standard error, data to standard output.\n",
    ]
    for name, command, context in _commands(pdid, click.Context(pdid, info_name="pdid", **pdid.context_settings)):
        parts += [f"{'#' * max(2, name.count(' ') + 1)} {name}\n", "```text", command.get_help(context), "```\n"]
    return "\n".join(parts)


def _commands(command: click.Command, context: click.Context) -> list[tuple[str, click.Command, click.Context]]:
    """The command and everything under it, in the order of their help."""
    context.terminal_width = context.max_content_width = 100
    found = [(context.command_path, command, context)]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += _commands(child, click.Context(child, info_name=name, parent=context))
    return found


def settings_page() -> str:
    """docs/settings.md: every setting with its unit, default and range."""
    parts = [
        f"{_MADE}# Settings\n",
        "`pdid.toml` in the corpus folder, else in the working one. What it leaves out keeps its default; an",
        "unknown key is an error. A changed value redoes the stage it belongs to and what follows, nothing else.\n",
        "```toml",
        "previews = true",
        "",
        "[segment]",
        "max_s = 20.0",
        "```\n",
        "## At the top of the file\n",
        *_table(Settings),
    ]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts += [f"\n## [{name}]\n", f"{(section.__doc__ or '').strip()}\n", *_table(section)]
    return "\n".join(parts) + "\n"


def _table(section: type[BaseModel]) -> list[str]:
    rows = ["| setting | default | allowed | what it is |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        if not isinstance(field.default, BaseModel):
            rows.append(f"| `{name}` | `{_toml(field.default)}` | {_allowed(field)} | {field.description} |")
    return rows


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _allowed(field: FieldInfo) -> str:
    choices = get_args(field.annotation)
    if choices:
        return ", ".join(f"`{_toml(choice)}`" for choice in choices)
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for bound in field.metadata
        for name, sign in _SIGNS.items()
        if hasattr(bound, name)
    ]
    kinds: dict[Any, str] = {bool: "true or false", str: "text", int: "whole number", float: "number"}
    return ", ".join([kinds.get(field.annotation, ""), *bounds]).strip(", ")


def main(folder: Path) -> None:
    """Write the pages into `folder`."""
    (folder / "cli.md").write_text(cli_page(), "utf-8")
    (folder / "settings.md").write_text(settings_page(), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))

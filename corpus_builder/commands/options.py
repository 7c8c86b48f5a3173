"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

corpus_option = click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("corpus"),
    envvar="PDID_CORPUS",
    show_default=True,
    show_envvar=True,
    help="The corpus folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")

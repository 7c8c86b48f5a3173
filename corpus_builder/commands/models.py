"""`pdid models`: list the models and where each comes from, or fetch them for a machine without internet."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from catalog.errors import PdidError, UsageError
from corpus_builder.commands.options import json_option
from corpus_builder.models import ModelInfo, all_models
from corpus_builder.models import fetch as fetch_model


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  pdid models                       what is used, and where each model comes from here
  pdid models --json                the same, one JSON object per line
  PDID_MODELS=/media/usb/models pdid models fetch
                                    bring everything to a folder an offline machine can use
""",
)
@json_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models pdid uses, with licence and place; `fetch` brings them for a machine that will be offline.

    A model is looked for in the folder the settings name, then in $PDID_MODELS, then in the caches on disk, and
    last on the model hub.
    """
    if ctx.invoked_subcommand is None:
        for model in all_models():
            click.echo(json.dumps(asdict(model), ensure_ascii=False) if as_json else _line(model))


def _line(model: ModelInfo) -> str:
    where = model.path or (f"missing: pdid models fetch {model.name}" if model.fetchable else "missing: run make setup")
    gated = ", gated" if model.gated else ""
    origin = f"{model.origin}, " if model.origin and model.origin != "wheel" else ""
    return f"{model.name:14} {model.purpose} ({origin}{model.source}, {model.licence}{gated})\n{'':14} {where}"


@models.command(
    epilog="""\b
Examples:
  pdid models fetch                 everything that is missing
  pdid models fetch htdemucs        the separation model alone
  HF_TOKEN=hf_… pdid models fetch diarization
                                    the gated diarization pipeline, its conditions accepted on its page
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def fetch(names: tuple[str, ...], as_json: bool) -> None:
    """Bring models into $PDID_MODELS where that is set, else into the Hugging Face cache.

    Without a NAME, all that can be fetched. What is there already is left alone. Exit status 1 where one fails; the
    others are fetched all the same.
    """
    failed = []
    for name in names or [model.name for model in all_models() if model.fetchable]:
        try:
            found = fetch_model(name)
        except PdidError as error:
            if len(names) == 1 or isinstance(error, UsageError):
                raise
            failed.append(name)
            click.echo(f"{name}: {error}", err=True)
            continue
        if as_json:
            row = {"name": name, "path": str(found.folder), "origin": found.origin}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            click.echo(f"{name}: {found.folder}")
    if failed:
        raise PdidError(f"could not fetch {', '.join(failed)}; the reasons are above")

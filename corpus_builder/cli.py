"""The front door: `pdid COMMAND`. Commands load only when they are called, so that `--help` is instant."""

from __future__ import annotations

import importlib
import os
import sys

import click

from catalog import interrupts
from catalog.errors import PdidError, UsageError

# command -> (module with a click command of that name, one-line help shown by `pdid --help`)
COMMANDS = {
    "ingest": ("corpus_builder.commands.ingest", "Media in, clips and catalog rows out."),
    "split": ("corpus_builder.commands.split", "Divide the clips into train, dev and test without leaks."),
    "transcribe": ("corpus_builder.commands.transcribe", "What is said in the clips: by a Whisper, or from files."),
    "benchmark": ("asr_experiments.commands.benchmark", "Does masking what betrays the accent help? Arms × seeds."),
    "label": ("corpus_builder.commands.label", "Accent labels: out to Label Studio, in from it or a table."),
    "speakers": ("corpus_builder.commands.speakers", "Who is whom across recordings: list, link, merge, split."),
    "export": ("corpus_builder.commands.export", "Write the corpus in the formats that others read."),
    "rebuild": ("corpus_builder.commands.rebuild", "Recreate a corpus from a release without audio."),
    "remove": ("corpus_builder.commands.remove", "Takedowns: a recording and all that was made of it."),
    "report": ("corpus_builder.commands.report", "The corpus on one page, to look at and to listen to."),
    "sql": ("corpus_builder.commands.sql", "Ask the catalog, read-only."),
    "status": ("corpus_builder.commands.status", "What the corpus holds and what is left to do."),
    "doctor": ("corpus_builder.commands.doctor", "Check this machine: versions, ffmpeg, models, disk, GPU."),
    "models": ("corpus_builder.commands.models", "List the models, or fetch them for a machine without internet."),
    "demo": ("corpus_builder.commands.demo", "Build a small corpus from material that comes with pdid."),
}


class LazyGroup(click.Group):
    """A command group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `pdid demo`, then `pdid ingest FOLDER --accent NAME`. Each command's --help has examples.",
)
@click.version_option(package_name="pdid", message="pdid %(version)s")
def pdid() -> None:
    """Build accent speech corpora from raw media, and measure whether ASR can be made deaf to accent."""


def main() -> None:
    """Run the command line; exit 0 well, 1 something failed, 2 wrong usage, 130 interrupted."""
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
    # before torch is imported: on a busy machine, threads that wait by spinning wait for minutes
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    interrupts.listen()
    try:
        code = pdid.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = _say("interrupted", 130)
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except UsageError as error:
        code = _say(str(error), 2)
    except PdidError as error:
        code = _say(str(error), 1)
    except BrokenPipeError:  # `pdid sql … | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's own last flush is quiet
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, code: int) -> int:
    click.echo(f"pdid: {message}", err=True)
    return code

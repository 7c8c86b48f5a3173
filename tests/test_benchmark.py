"""`pdid benchmark` on real speech: the matrix, resuming, sharing, checks before hours are spent, and bad input."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from asr_experiments import mini
from asr_experiments.experiment import claim
from asr_experiments.finetune import SummedLoss
from catalog.records import SplitMember
from catalog.store import open_catalog
from catalog.whisper_files import what_is_wrong
from corpus_builder import cli
from tests import digits as material
from tests.digits import arguments, digits_rows, one_thread_environment, runs_of, said_by, write_rows
from tests.media import Pdid, start_pdid, write_wav
from tests.speech import SMALL, digit_strings, one_thread

__all__ = ["one_thread"]

ARMS = "zero-shot,finetune,saliency"


@pytest.fixture(scope="module")
def rows(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Rows of a small data set; its clips are absolute paths. Never change them."""
    folder = tmp_path_factory.mktemp("strings")
    return [row | {"clip": str(folder / row["clip"])} for row in digits_rows(folder, test_data)]


@pytest.fixture(scope="module")
def data(rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "digits.csv", rows)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material.untrained_folder(tmp_path_factory.mktemp("model") / "untrained")


@pytest.fixture(scope="module")
def finished(data: Path, whisper_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A corpus with three arms done, and what `--json` said. Never change it."""
    corpus = tmp_path_factory.mktemp("finished") / "corpus"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = CliRunner().invoke(cli.pdid, [*arguments(data, corpus, whisper_digits, ARMS), "--json"])
    torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    return corpus, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def beginning(finished: tuple[Path, list[Any]], tmp_path: Path) -> Path:
    """A corpus without a run, in which the log-mels and the classifier are there already."""
    corpus = tmp_path / "corpus"
    for folder in (finished[0] / "runs").iterdir():
        if folder.name.startswith(("cache", "classifier-")):
            shutil.copytree(folder, corpus / "runs" / folder.name)
    return corpus


# ---------------------------------------------------------------- the matrix


def test_three_arms_end_in_runs_and_predictions(finished: tuple[Path, list[Any]], rows: list[dict[str, str]]) -> None:
    corpus, lines = finished
    assert [(line["arm"], line["seed"], line["fresh"], line["error"]) for line in lines] == [
        ("zero-shot", 0, True, None),
        ("finetune", 0, True, None),
        ("saliency", 0, True, None),
    ]
    found = runs_of(corpus)
    assert set(found) == {"zero-shot-0", "finetune-0", "saliency-0"}
    texts = sorted(row["text"] for row in rows if row["split"] == "test")
    for line in lines:
        run = found[f"{line['arm']}-{line['seed']}"]
        said = said_by(corpus, run)
        assert sorted(one.reference for one in said) == texts
        groups = {group["name"]: group for group in run.metrics["groups"]}
        raw = groups["all"]["forms"]["raw"]
        assert sum(one.errors for one in said) == raw["substitutions"] + raw["deletions"] + raw["insertions"]
        assert raw["words"] == sum(len(text.split()) for text in texts)
        assert (groups["Greek"]["n_clips"], groups["Greek"]["n_speakers"]) == (2, 1)
        assert run.config["environment"]["torch"] == torch.__version__.split("+")[0]
        assert run.config["settings"]["score"] == "raw"
        assert len(run.config["data_fingerprint"]) == 16
        assert run.metrics["seconds"] > 0
        assert run.metrics["peak_memory_bytes"] > 50e6
        assert line["groups"] == run.metrics["groups"]
    # a model that knows two US speakers: the standard accent is easy for it, as the other speaker's strings are not
    rates = {g["name"]: g["forms"]["raw"]["wer"] for g in found["zero-shot-0"].metrics["groups"]}
    assert rates["standard"] < rates["unseen accents"]
    assert found["finetune-0"].metrics["n_updates"] == found["saliency-0"].metrics["n_updates"] == 2 * 3
    assert found["finetune-0"].metrics["share_masked"] == 0
    assert 0 < found["saliency-0"].metrics["share_masked"] < 0.8
    assert len(found["saliency-0"].metrics["epochs"]) == 2
    assert {"dev_loss", "dev_wer"} <= set(found["saliency-0"].metrics["epochs"][0])
    assert found["finetune-0"].metrics["groups_full"][0]["name"] == "all", "with --context auto, both are measured"


def test_what_a_benchmark_leaves_on_disk(finished: tuple[Path, list[Any]]) -> None:
    corpus, lines = finished
    folder = corpus / "runs" / lines[0]["experiment_id"]
    assert (folder / "report.html").stat().st_size > 10_000
    assert what_is_wrong(folder / "cells" / "saliency-0" / "model") is None
    assert not list(folder.rglob("checkpoint"))
    assert not [path for path in corpus.rglob(".*") if path.is_file() and path.name.endswith("part")]
    scores = json.loads((folder / "classifier" / "scores.json").read_text("utf-8"))
    assert scores["accents"] == ["Belgian French", "German", "USA"]
    assert sum(map(sum, scores["scores"]["confusion"])) == scores["n_test"] == 4, "the Greek clips are left out"
    assert {"duration_only", "pauses_only"} <= set(scores)
    assert any("one speaker in training" in warning for warning in scores["warnings"])


def test_a_second_run_does_nothing(
    finished: tuple[Path, list[Any]], data: Path, whisper_digits: Path, pdid: Pdid
) -> None:
    corpus, _ = finished
    before = runs_of(corpus)
    done = pdid(*arguments(data, corpus, whisper_digits, ARMS), "--json")
    assert done.code == 0, done.err
    assert [json.loads(line)["fresh"] for line in done.out.splitlines()] == [False] * 3
    assert runs_of(corpus) == before
    assert "3 cells, 0 failed" in done.err


def kill_after_epoch(process: subprocess.Popen[str], corpus: Path, epoch: int, how: signal.Signals) -> str:
    """Send a signal once a checkpoint of `epoch` is there; what the process said on standard error."""
    for _ in range(6000):
        if list(corpus.glob(f"runs/*/cells/*/checkpoint/epoch-{epoch:04d}")):
            break
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate()
    return err


def test_stopped_and_killed_it_goes_on_and_ends_the_same(
    data: Path, whisper_digits: Path, beginning: Path, pdid: Pdid, tmp_path: Path
) -> None:
    """Ctrl-C after the first epoch, SIGKILL after the second; another corpus, undisturbed, has the same predictions."""
    command = arguments(data, beginning, whisper_digits, "saliency", epochs=4)
    process = start_pdid(*command, env=one_thread_environment())
    err = kill_after_epoch(process, beginning, 1, signal.SIGINT)
    assert (process.returncode, err.splitlines()[-1]) == (130, "pdid: interrupted")
    assert "Traceback" not in err
    assert runs_of(beginning) == {}
    process = start_pdid(*command, env=one_thread_environment())
    kill_after_epoch(process, beginning, 2, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert runs_of(beginning) == {}
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(beginning / "runs" / "cache", undisturbed / "runs" / "cache")
    for folder in (beginning / "runs").glob("classifier-*"):
        shutil.copytree(folder, undisturbed / "runs" / folder.name)
    done = pdid(*command)
    assert done.code == 0, done.err
    whole = pdid(*arguments(data, undisturbed, whisper_digits, "saliency", epochs=4))
    assert whole.code == 0, whole.err
    (cut,), (one,) = runs_of(beginning).values(), runs_of(undisturbed).values()
    assert cut.metrics["resumed_from"] >= 2
    assert one.metrics["resumed_from"] == 0
    assert cut.run_id == one.run_id
    assert cut.metrics["losses"] == one.metrics["losses"]
    assert said_by(beginning, cut) == said_by(undisturbed, one)
    assert any(said.hypothesis for said in said_by(undisturbed, one))


def test_two_processes_share_the_cells(data: Path, untrained: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    command = [*arguments(data, corpus, untrained, "zero-shot,finetune", seeds="0,1,2", epochs=1), "--json"]
    both = [start_pdid(*command, env=one_thread_environment()) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    fresh = [{line["run_id"] for text in out.splitlines() if (line := json.loads(text))["fresh"]} for out, _ in said]
    assert not fresh[0] & fresh[1]
    found = runs_of(corpus)
    assert fresh[0] | fresh[1] == {run.run_id for run in found.values()}
    assert set(found) == {"zero-shot-0", "finetune-0", "finetune-1", "finetune-2"}
    assert found["finetune-1"].metrics["losses"] != found["finetune-2"].metrics["losses"]


def test_a_launch_of_two_processes_works_on_one_cell_at_a_time(data: Path, untrained: Path, tmp_path: Path) -> None:
    """As `accelerate launch` starts them on two GPUs; here on the processor."""
    corpus = tmp_path / "corpus"
    command = [*arguments(data, corpus, untrained, "finetune", epochs=1), "--json"]
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")
    script = tmp_path / "pdid.py"
    script.write_text("from corpus_builder.cli import main\nmain()\n")
    process = subprocess.run(
        [*launcher, script, *command], env=one_thread_environment(), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    (line,) = map(json.loads, process.stdout.splitlines())
    (run,) = runs_of(corpus).values()
    assert (line["run_id"], line["fresh"], line["error"]) == (run.run_id, True, None)
    assert run.metrics["n_updates"] == 3
    assert len(said_by(corpus, run)) == material.N_TEST
    assert what_is_wrong(corpus / "runs" / run.experiment_id / "cells" / "finetune-0" / "model") is None


def test_a_cell_in_work_elsewhere_is_passed_over(data: Path, untrained: Path, pdid: Pdid, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    command = arguments(data, corpus, untrained, "zero-shot,finetune", epochs=1)
    assert pdid(*arguments(data, corpus, untrained, "zero-shot", epochs=1)).code == 0
    (folder,) = (corpus / "runs").glob("untrained-*")
    with claim(folder / "cells" / "finetune-0", wait=False) as mine:
        assert mine
        done = pdid(*command)
    assert done.code == 0
    assert "finetune-0: in work by another process" in done.err
    assert "2 cells, 0 failed, 1 in work by other processes" in done.err
    assert set(runs_of(corpus)) == {"zero-shot-0"}
    assert pdid(*command).code == 0
    assert set(runs_of(corpus)) == {"zero-shot-0", "finetune-0"}


# ---------------------------------------------------------------- before hours are spent


def test_a_dry_run_checks_and_estimates_and_runs_nothing(
    finished: tuple[Path, list[Any]], data: Path, whisper_digits: Path, beginning: Path, pdid: Pdid
) -> None:
    done = pdid(*arguments(data, beginning, whisper_digits, ARMS), "--dry-run", "--json")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    told = {line["what"]: line["value"] for line in lines}
    assert told["experiment"] == finished[1][0]["experiment_id"]
    assert (told["train clips"], told["dev clips"], told["test clips"]) == (12, 1, material.N_TEST)
    assert [line["value"] for line in lines if line["what"] == "one test speaker"] == ["German", "Greek", "USA"]
    assert told["updates of a cell"] == 6
    assert told["cells"] == 3
    parts = told["classifier, minutes"] + 2 * told["training a cell, minutes"] + 3 * told["testing a cell, minutes"]
    assert told["all, minutes"] == pytest.approx(parts)
    assert told["training a cell, minutes"] > 0
    assert not (beginning / "catalog.duckdb").exists()
    assert not list((beginning / "runs").glob("whisper-digits-*"))


@pytest.fixture
def quick_mini(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mini that is a matter of seconds."""
    monkeypatch.setattr(mini, "fitting_settings", lambda clips: replace(SMALL, updates=6, warmup=2))


def test_a_mini_is_made_of_the_standard_accent_once(quick_mini: None, data: Path, pdid: Pdid, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    command = arguments(data, corpus, Path("mini"), "zero-shot")
    dry = pdid(*command, "--dry-run")
    assert dry.code == 0, dry.err
    assert "the mini Whisper is not trained yet" in dry.err
    assert not (corpus / "runs" / "models").exists()
    done = pdid(*command)
    assert done.code == 0, done.err
    assert "training the mini Whisper: update 6 of 6" in done.err
    (folder,) = (corpus / "runs" / "models").iterdir()
    assert what_is_wrong(folder) is None
    (run,) = runs_of(corpus).values()
    assert run.model == str(folder)
    assert len(said_by(corpus, run)) == material.N_TEST
    assert "update" not in pdid(*command).err


# ---------------------------------------------------------------- bad input


def test_wrong_data_is_named_before_anything_runs(
    rows: list[dict[str, str]], untrained: Path, pdid: Pdid, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"

    def told(changed: list[dict[str, str]], arms: str = "zero-shot", **changes: Any) -> str:
        done = pdid(*arguments(write_rows(tmp_path / "data.csv", changed), corpus, untrained, arms, **changes))
        assert (done.code, done.out) == (2, "")
        return done.err

    first, *others = rows
    assert "line 2: there is no clip" in told([first | {"clip": "gone.wav"}, *others])
    assert "line 2: " in (err := told([first | {"text": " "}, *others]))
    assert "text" in err
    assert "there is no test speech among the 13 clips" in told([row for row in rows if row["split"] != "test"])
    assert "no clip has the accent 'Irish'" in told(rows, standard="Irish")
    assert "no training clip has the accent 'Greek'" in told(rows, leave_out="Greek")
    american = [row for row in rows if row["split"] == "test" or row["accent"] == "USA"]
    assert "the arm saliency masks what tells accents apart" in told(american, "finetune,saliency")
    assert "does not know the language 'fa'; it knows en" in told(rows, language="fa")
    assert not (corpus / "catalog.duckdb").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": "finetune,salience"}, "there is no arm 'salience'; there are zero-shot, finetune"),
        ({"arms": ","}, "--arms: name at least one"),
        ({"seeds": "0,one"}, "--seeds: expected whole numbers from 0"),
        ({"seeds": "-1"}, "--seeds: expected whole numbers from 0"),
        ({"thresholds": "0.3,0.5"}, "--thresholds: expected 3 numbers, got 2"),
        ({"thresholds": "bold"}, "--thresholds: expected numbers"),
        ({"thresholds": "0.7,0.5,0.3"}, "three growing thresholds between 0 and 1"),
        ({"probabilities": "0,0.05,0.9,1.9"}, "chances between 0 and 1"),
        ({"split": "main"}, "--split and --dataset"),
        ({"model": "mini"}, "--model mini is trained on the standard accent: name it with --standard"),
        ({"model": "mini", "standard": "USA"}, "--model mini: say the language"),
        ({"model": "mini", "standard": "Greek", "language": "en"}, "no training clip has the accent 'Greek'"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, str], words: str, data: Path, pdid: Pdid) -> None:
    given = [part for name, value in changes.items() for part in (f"--{name}", value)]
    done = pdid("benchmark", "--dataset", data, "--corpus", "corpus", *given)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not Path("corpus").exists()


def test_a_folder_that_is_no_whisper_is_named(data: Path, pdid: Pdid, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    done = pdid(*arguments(data, tmp_path / "corpus", tmp_path / "bert", "finetune"))
    assert (done.code, done.out) == (2, "")
    assert "is no Whisper model: its config.json describes a model of type 'bert'" in done.err


def test_a_loss_that_is_no_number_fails_its_cell_and_the_others_go_on(
    data: Path, untrained: Path, pdid: Pdid, tmp_path: Path
) -> None:
    command = arguments(data, tmp_path / "corpus", untrained, "finetune,zero-shot", learning_rate="1e30")
    done = pdid(*command, "--json")
    assert done.code == 1
    assert [(json.loads(line)["arm"], json.loads(line)["error"] is None) for line in done.out.splitlines()] == [
        ("finetune", False),
        ("zero-shot", True),
    ]
    found = runs_of(tmp_path / "corpus")
    assert "training broke down at update" in found["finetune-0"].metrics["error"]
    assert "lower the learning rate (1e+30)" in found["finetune-0"].metrics["error"]
    assert said_by(tmp_path / "corpus", found["finetune-0"]) == []
    assert len(said_by(tmp_path / "corpus", found["zero-shot-0"])) == material.N_TEST
    again = pdid(*command, "--json")
    assert again.code == 1
    assert [json.loads(line)["fresh"] for line in again.out.splitlines()] == [True, False], "what failed is tried again"


def test_out_of_memory_halves_what_is_computed_at_once_and_says_so(
    data: Path, untrained: Path, pdid: Pdid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = SummedLoss.forward

    def short_of_memory(self: SummedLoss, features: Any, tokens: Any, labels: Any) -> Any:
        if len(features) > 2 and self.training:
            raise torch.OutOfMemoryError
        return forward(self, features, tokens, labels)

    monkeypatch.setattr(SummedLoss, "forward", short_of_memory)
    done = pdid(*arguments(data, tmp_path / "corpus", untrained, "finetune", epochs=1))
    assert done.code == 0, done.err
    assert "(memory ran short: 2 clips at once, the updates are the same)" in done.err
    (run,) = runs_of(tmp_path / "corpus").values()
    assert (run.metrics["micro_batch"], run.metrics["n_updates"]) == (2, 3)


def test_clips_longer_than_the_model_takes(test_data: Path, untrained: Path, pdid: Pdid, tmp_path: Path) -> None:
    """The model takes 4 s: such a training clip is left out and counted, such a test clip heard in parts."""
    rows = digits_rows(tmp_path, test_data, (("train", "jackson", 3), ("test", "lucas", 1)))
    for split in ("train", "test"):
        (long,) = digit_strings(test_data, "george", 1, seed=len(split), digits=(12, 12))
        assert len(long.sound) > 4.5 * 16_000
        write_wav(tmp_path / f"long-{split}.wav", long.sound)
        rows.append(
            {"clip": f"long-{split}.wav", "text": long.text, "accent": "Greek", "speaker": "george", "split": split}
        )
    corpus = tmp_path / "corpus"
    done = pdid(*arguments(write_rows(tmp_path / "data.csv", rows), corpus, untrained, "finetune", epochs=1))
    assert done.code == 0, done.err
    assert "1 speakers are heard in training and in test (george)" in done.err
    (run,) = runs_of(corpus).values()
    assert run.metrics["left_out"] == {"too long": 1}
    assert run.metrics["n_clips"] == 3
    assert len(said_by(corpus, run)) == 2


# ---------------------------------------------------------------- from media to the benchmark


@pytest.fixture
def divided(digits: Path, pdid: Pdid, tmp_path: Path) -> Path:
    """The corpus of digits with the texts of all recordings but one, and a split."""
    corpus = Path(shutil.copytree(digits, tmp_path / "corpus"))
    header, *texts = (digits.parent / "transcripts.csv").read_text().splitlines()
    told = [line for line in texts if "digits_0000" not in line]
    path = digits.parent / "transcripts-but-one.csv"
    path.write_text("\n".join([header, *told]) + "\n")
    assert pdid("transcribe", "--import", path, "--language", "en", "--corpus", corpus).code == 0
    path.unlink()
    with open_catalog(corpus, write=True) as catalog:
        sides = {"jackson": "train", "nicolas": "train", "theo": "test"}
        clips = catalog.clips()
        members = [SplitMember(clip.segment_id, sides[clip.speaker_label or ""]) for clip in clips]
        catalog.write_split(members, name="by-speaker")
    return corpus


def test_a_split_of_a_corpus_is_benchmarked(divided: Path, whisper_digits: Path, pdid: Pdid) -> None:
    command = [
        "benchmark",
        "--split",
        "by-speaker",
        "--model",
        whisper_digits,
        "--corpus",
        divided,
        "--standard",
        "USA",
    ]
    done = pdid(*command, "--arms", "zero-shot", "--score", "raw")
    assert done.code == 0, done.err
    assert "clips of the split are left out: no transcript" in done.err
    (run,) = runs_of(divided).values()
    with open_catalog(divided) as catalog:
        test = dict(
            catalog.query(
                "SELECT segment_id, segments.text FROM splits JOIN segments USING (segment_id)"
                " WHERE splits.split = 'test' AND segments.text IS NOT NULL"
            ).rows
        )
    said = said_by(divided, run)
    assert {one.segment_id: one.reference for one in said} == test
    assert len(said) >= 5
    assert run.metrics["groups"][0]["forms"]["raw"]["wer"] < 0.5, "clips of a speaker the model knows"
    assert run.config["settings"]["language"] == "en"


def test_a_clip_of_a_split_that_is_not_on_disk_is_named(divided: Path, whisper_digits: Path, pdid: Pdid) -> None:
    with open_catalog(divided) as catalog:
        gone = next(clip for clip in catalog.clips() if clip.speaker_label == "theo")
    (divided / gone.path).unlink()
    done = pdid("benchmark", "--model", whisper_digits, "--corpus", divided, "--standard", "USA")
    assert (done.code, done.out) == (2, "")
    assert gone.path in done.err
    assert "is not on disk" in done.err

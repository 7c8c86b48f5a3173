"""The studies beside the matrix, as commands: the classifier, planted truth, the report again, data sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from asr_experiments.arms import ARMS
from asr_experiments.commands.options import make_settings, numbers, read_data, read_seeds, sweep
from asr_experiments.datasets import Utterance, read_dataset
from asr_experiments.experiment import BenchmarkSettings, cells, make_experiment
from asr_experiments.studies import SANITY_CLIPS, sanity_sides
from catalog.errors import UsageError
from catalog.records import SplitMember
from catalog.store import open_catalog
from tests.digits import arguments, digits_rows, runs_of, untrained_folder, write_rows
from tests.furnished import furnish
from tests.media import Pdid
from tests.speech import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def data(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of digits: three accents to learn, one that is new in the test."""
    folder = tmp_path_factory.mktemp("digits")
    return write_rows(folder / "digits.csv", digits_rows(folder, test_data))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_folder(tmp_path_factory.mktemp("model") / "untrained")


# ---------------------------------------------------------------- the classifier


def test_the_classifier_is_tested_beside_its_controls_and_the_benchmark_takes_it(
    data: Path, untrained: Path, pdid: Pdid, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    command = ("benchmark", "classifier", "--dataset", data, "--corpus", corpus, "--model", untrained)
    done = pdid(*command)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["told", "from", "accuracy", "balanced", "macro-F1"]
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "the speech",
        "the clips' length alone",
        "what lies between the words alone",
        "guessing",
    ]
    assert "33.3%" in lines[4]
    assert "left out, for the classifier was never shown them: Greek" in done.err
    assert "one speaker in training" in done.err
    again = pdid(*command, "--json")
    (told,) = map(json.loads, again.out.splitlines())
    folder = Path(told["folder"])
    assert folder.parent == corpus / "runs"
    assert folder.name.startswith("classifier-")
    assert (told["n_train"], told["n_test"]) == (12, 4)
    confusion = told["scores"]["confusion"]
    assert sum(map(sum, confusion)) == 4
    assert told["scores"]["accuracy"] == sum(confusion[i][i] for i in range(3)) / 4
    assert f"{told['scores']['accuracy']:.1%}" in lines[1]
    made = (folder / "classifier.safetensors").stat().st_mtime_ns
    assert pdid(*arguments(data, corpus, untrained, "saliency", epochs=1)).code == 0
    assert (folder / "classifier.safetensors").stat().st_mtime_ns == made, "not trained again"
    assert [path.name for path in (corpus / "runs").glob("classifier-*")] == [folder.name]
    (own,) = (corpus / "runs").glob("untrained-*/classifier/classifier.safetensors")
    assert own.read_bytes() == (folder / "classifier.safetensors").read_bytes()


def test_one_accent_is_nothing_to_tell_apart(test_data: Path, untrained: Path, pdid: Pdid, tmp_path: Path) -> None:
    rows = digits_rows(tmp_path, test_data, (("train", "jackson", 2), ("test", "theo", 1)))
    path = write_rows(tmp_path / "data.csv", rows)
    done = pdid("benchmark", "classifier", "--dataset", path, "--corpus", "c", "--model", untrained)
    assert (done.code, done.out) == (2, "")
    assert "two accents or more to train on, got USA" in done.err


# ---------------------------------------------------------------- planted truth


def test_planted_truth_is_measured_and_kept(data: Path, pdid: Pdid, tmp_path: Path) -> None:
    """On so little speech the bounds are not met; that they are on enough is tests/test_sanity.py's."""
    command = ("benchmark", "sanity", "--dataset", data, "--corpus", tmp_path, "--json")
    done = pdid(*command)
    told = {line["method"]: line for text in done.out.splitlines() for line in [json.loads(text)]}
    assert set(told) == {"gradcam", "gradcam++"}
    assert done.code == (1 if told["gradcam"]["failures"] else 0)
    for method, figures in told.items():
        kept = json.loads((tmp_path / "runs" / "sanity" / f"digits-{method}.json").read_text("utf-8"))
        assert kept == {name: value for name, value in figures.items() if name != "method"}
        assert 0 <= kept["pointing_chance"] < 0.2
        assert kept["n_test_speakers"] == 3
        assert set(kept["accuracy"]) >= {"saliency", "random"}
        assert len(kept["deletion"]) == len(kept["insertion"]) == len(kept["shares"])
        assert all(failure in done.err for failure in kept["failures"])


def spoken_by(speaker: str, split: str, n: int = 1) -> list[Utterance]:
    return [
        Utterance(f"{speaker}-{split}-{i}", Path("x.wav"), "one", "USA", speaker, speaker, split, 16_000)  # type: ignore[arg-type]
        for i in range(n)
    ]


def test_planted_truth_is_tested_on_speakers_it_was_not_trained_on() -> None:
    clips = spoken_by("a", "train") + spoken_by("b", "dev") + spoken_by("b", "test") + spoken_by("c", "test")
    chosen, held_out = sanity_sides(clips)
    assert held_out == ["c"]
    assert sorted(clip.segment_id for clip in chosen) == sorted(clip.segment_id for clip in clips)
    # nobody is in test alone, or everybody: a third is held out
    both = [clip for name in "abcdef" for split in ("train", "test") for clip in spoken_by(name, split)]
    assert len(sanity_sides(both)[1]) == 2
    assert len(sanity_sides([clip for name in "abc" for clip in spoken_by(name, "test")])[1]) == 1


def test_planted_truth_takes_some_clips_of_every_speaker() -> None:
    many = spoken_by("a", "train", 1000) + spoken_by("b", "train", 20) + spoken_by("c", "test", 30)
    chosen, held_out = sanity_sides(many)
    count = {name: sum(clip.speaker == name for clip in chosen) for name in "abc"}
    assert held_out == ["c"]
    assert count == {"a": SANITY_CLIPS - 20, "b": 20, "c": 30}
    assert sanity_sides(many) == (chosen, held_out)


# ---------------------------------------------------------------- the report again, and data sets


def test_the_report_is_written_again(data: Path, untrained: Path, pdid: Pdid, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    assert pdid(*arguments(data, corpus, untrained, "zero-shot")).code == 0
    (run,) = runs_of(corpus).values()
    page = corpus / "runs" / run.experiment_id / "report.html"
    page.unlink()
    done = pdid("benchmark", "report", run.experiment_id, "--corpus", corpus)
    assert (done.code, done.out.strip()) == (0, str(page))
    assert run.experiment_id in page.read_text("utf-8")
    wrong = pdid("benchmark", "report", "untrained-0", "--corpus", corpus)
    assert (wrong.code, wrong.out) == (2, "")
    assert f"there is no experiment 'untrained-0' in {corpus}; there is {run.experiment_id}" in wrong.err
    assert "`pdid benchmark` makes one" in pdid("benchmark", "report", "x", "--corpus", tmp_path / "none").err


def test_a_corpus_becomes_a_data_set(test_data: Path, pdid: Pdid, tmp_path: Path) -> None:
    """LibriSpeech's layout, with real recordings and made-up texts."""
    found = sorted((test_data / "clips" / "librispeech").glob("*.flac"))[:3]
    for path in found:
        speaker, chapter, _ = path.stem.split("-")
        folder = tmp_path / "LibriSpeech" / "test-clean" / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
        with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{path.stem} SOME WORDS\n")
    target = tmp_path / "libri.csv"
    done = pdid("benchmark", "dataset", "librispeech", tmp_path / "LibriSpeech", target, "--accent", "read")
    assert done.code == 0, done.err
    assert f"{target}: 3 clips" in done.err
    utterances = read_dataset(target)
    assert [(u.text, u.accent, u.split) for u in utterances] == [("SOME WORDS", "read", "test")] * 3
    wrong = pdid("benchmark", "dataset", "libri", tmp_path, target)
    assert (wrong.code, wrong.out) == (2, "")
    assert "choose from librispeech, edacc" in wrong.err


# ---------------------------------------------------------------- options


def test_options_before_a_studys_name_are_refused(pdid: Pdid) -> None:
    done = pdid("benchmark", "--seeds", "0", "classifier")
    assert (done.code, done.out) == (2, "")
    assert "write --seeds after `classifier`" in done.err
    assert pdid("benchmark", "classify").code == 2


def test_languages_of_a_split_are_told_apart(corpus: Path) -> None:
    """Of a split in two languages the clips in the one that is asked for are taken, and the others counted."""
    furnish(corpus)
    with open_catalog(corpus, write=True) as catalog:
        clips = [clip.segment_id for clip in catalog.clips()]
        catalog.write_split([SplitMember(clip, "test") for clip in clips], name="all")
    both = read_data(corpus, "all", None, None, None)
    assert (both.language, set(both.languages)) == (None, {"fa", "en"})
    each = {language: read_data(corpus, "all", None, language, None) for language in ("fa", "en")}
    for language, data in each.items():
        assert data.language == language
        assert data.left_out["in another language"] == len(both.utterances) - len(data.utterances) > 0
    assert {u.text for u in each["fa"].utterances}.isdisjoint(u.text for u in each["en"].utterances)
    assert sum(len(data.utterances) for data in each.values()) == len(both.utterances)
    with pytest.raises(UsageError, match="no clip of the split is in 'de'; there are"):
        read_data(corpus, "all", None, "de", None)


def test_lists_of_numbers() -> None:
    assert numbers("0.2,0.4,0.6", "--x") == (0.2, 0.4, 0.6)
    assert read_seeds("2,0,2") == [2, 0]
    for text in ("", "1;2", "0.5"):
        with pytest.raises(UsageError, match="--seeds: expected"):
            read_seeds(text)


def chosen(**changes: Any) -> dict[str, Any]:
    """The options of `pdid benchmark` as they are where nothing is said."""
    nothing = dict.fromkeys(
        ("fill", "draw", "thresholds", "probabilities", "epochs", "batch_size", "learning_rate", "leave_out")
    )
    return nothing | {"paper": False, "context": "full", "lora": False, "gradcam_layer": 4, "score": "raw"} | changes


def settings_of(data: Path, **changes: Any) -> BenchmarkSettings:
    return make_settings("tiny", read_data(Path("c"), None, data, "en", "USA"), chosen(**changes))


def test_what_the_options_mean(data: Path) -> None:
    usual = settings_of(data)
    assert (usual.mask.thresholds, usual.mask.low, usual.mask.high) == ((0.3, 0.5, 0.7), (0.0, 0.05), (0.7, 0.9))
    assert (usual.mask.fresh, usual.mask.valid_only, usual.cam.valid_only) == (True, True, True)
    assert usual.classifier.crop_frames is not None
    paper = settings_of(data, paper=True, fill="mean")
    assert (paper.mask.fresh, paper.mask.valid_only, paper.cam.valid_only, paper.mask.fill) == (
        False,
        False,
        False,
        "mean",
    )
    assert paper.classifier.crop_frames is None
    assert settings_of(data, thresholds="aggressive").mask.thresholds == (0.2, 0.4, 0.6)
    odd = settings_of(data, probabilities="0,0.1,0.5,0.6", gradcam_layer=3)
    assert (odd.mask.low, odd.mask.high, odd.cam.layer) == ((0.0, 0.1), (0.5, 0.6), 3)


def test_sweeps_are_experiments_of_their_own(data: Path) -> None:
    utterances = read_dataset(data)
    usual = settings_of(data)
    thresholds = sweep(usual, "thresholds", utterances)
    assert [one.mask.thresholds for one in thresholds] == [(0.3, 0.5, 0.7), (0.2, 0.4, 0.6), (0.4, 0.6, 0.8)]
    each = [make_experiment(Path("c"), one, "v", utterances) for one in thresholds]
    assert len({one.experiment_id for one in each}) == 3
    assert len({one.data_fingerprint for one in each}) == 1
    out = sweep(usual, "leave-one-out", utterances)
    assert [one.leave_out for one in out] == ["Belgian French", "German"]
    left = make_experiment(Path("c"), out[1], "v", utterances)
    assert left.trained_on == ("Belgian French", "USA")
    assert {u.split for u in left.utterances if u.accent == "German"} == {"test"}
    assert sweep(usual, None, utterances) == [usual]


def test_the_matrix_has_every_arm_with_every_seed_and_the_untrained_once() -> None:
    found = [cell.name for cell in cells(("zero-shot", "finetune", "saliency++"), (0, 1))]
    assert found == ["zero-shot-0", "finetune-0", "saliency-pp-0", "finetune-1", "saliency-pp-1"]
    assert len(cells(ARMS, (0, 1, 2))) == 3 * (len(ARMS) - 1) + 1

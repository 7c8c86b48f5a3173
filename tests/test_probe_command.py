"""`pdid benchmark probe` from the command line to its page, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from asr_experiments.commands.probe import table
from asr_experiments.probing.figures import Control, Figure, Likeness, Place, ProbeSettings, ProbeStudy
from asr_experiments.probing.page import write_page
from tests.digits import digits_rows, untrained_folder, write_rows
from tests.experiment_folder import HOSTILE
from tests.media import Pdid
from tests.speech import one_thread

__all__ = ["one_thread"]

DOMAINS = {
    "accent": {"in domain", "noise", "telephone"},
    "speaker": {"in domain", "noise", "telephone"},
    "channel": {"in domain", "unseen accent"},
    "words": {"in domain", "noise", "telephone", "unseen accent"},
}


@pytest.fixture(scope="module")
def data(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of six speakers: two accents with one in training and one in test, one with one speaker, one unseen."""
    folder = tmp_path_factory.mktemp("digits")
    return write_rows(folder / "digits.csv", digits_rows(folder, test_data))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_folder(tmp_path_factory.mktemp("model") / "untrained")


def test_every_layer_is_asked_everything_in_every_domain(
    data: Path, untrained: Path, pdid: Pdid, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    done = pdid("benchmark", "probe", "--dataset", data, "--corpus", corpus, "--model", untrained, "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert Counter(line["of"] for line in lines) == {"figures": 11 * 12, "controls": 11 * 5, "likeness": 4}
    figures = [line for line in lines if line["of"] == "figures"]
    layers = {(line["place"]["model"], line["place"]["layer"]) for line in figures}
    assert Counter(model for model, _ in layers) == {
        "untrained": 3, "accent classifier": 4, "random weights": 3, "log-mel": 1,
    }  # fmt: skip
    for layer in layers:
        own = [f for f in figures if (f["place"]["model"], f["place"]["layer"]) == layer]
        assert {task: {f["domain"] for f in own if f["task"] == task} for task in DOMAINS} == DOMAINS
    assert all(0 <= f["value"] <= 1 for f in figures if f["task"] != "words")
    chances = {(f["task"], f["chance"]) for f in figures}
    assert chances == {("accent", 1 / 2), ("speaker", 1 / 3), ("channel", 1 / 3), ("words", None)}
    counted = {(f["task"], f["domain"]): (f["n"], f["n_speakers"]) for f in figures}
    assert counted["accent", "in domain"] == (4, 2)  # theo and lucas, whom no probe was trained on
    assert counted["channel", "in domain"] == (12, 2)
    assert counted["words", "unseen accent"] == (2, 1)
    assert "one speaker: Belgian French" in done.err
    missed = [c for c in lines if c.get("kind") == "planted" and c["value"] < 0.95]
    assert done.code == (1 if missed else 0)
    (self_likeness,) = (x["values"] for x in lines if x["of"] == "likeness" and x["second"] == "untrained")
    assert [self_likeness[i][i] for i in range(3)] == pytest.approx([1.0] * 3)
    kept = json.loads((corpus / "runs" / "probe" / "digits.json").read_text("utf-8"))
    assert kept["figures"] == [{k: v for k, v in f.items() if k != "of"} for f in figures]
    assert kept["frame_ms"] == {
        "untrained": [20] * 3, "accent classifier": [10, 20, 40, 80], "random weights": [20] * 3, "log-mel": [10],
    }  # fmt: skip
    page = (corpus / "runs" / "probe" / "digits.html").read_text("utf-8")
    assert page.count("<svg") == 4 * (1 + 4)  # a question: all models, and each in and out of domain
    assert not list((corpus / "runs" / "probe").glob(".*")), "nothing half-written, no frames left"


def study(name: str) -> ProbeStudy:
    """Two layers with set figures."""
    places = [Place(name, "convolutions", 0), Place(name, "block 1", 1)]
    figures = [
        Figure(places[0], "words", "in domain", 0.25, 0.2, 0.3, None, 10, 3),
        Figure(places[1], "words", "in domain", 0.5, None, None, None, 10, 1),
        Figure(places[0], "words", "noise", 0.75, 0.7, 0.8, None, 10, 3),
        Figure(places[1], "words", "noise", 0.5, None, None, None, 10, 1),
        Figure(places[0], "accent", "in domain", 0.9, 0.8, 1.0, 0.5, 8, 4),
    ]
    controls = [
        Control(places[0], "accent", "shuffled", 0.49, 0.02, 0.5),
        Control(places[0], "planted attribute", "planted", 0.9, 0.01, 0.5),
    ]
    return ProbeStudy(
        models={name: ("convolutions", "block 1")}, frame_ms={name: (20, 20)}, figures=tuple(figures),
        controls=tuple(controls), likeness=(Likeness(name, name, ((1.0, 0.5), (0.5, 1.0))),), notes=("a note",),
        left_out={"shorter than 0.4 s": 3}, n_train=5, n_test=10, seconds=90.0, settings=ProbeSettings(),
    )  # fmt: skip


def test_the_page_has_the_figures_and_escapes_names() -> None:
    page = write_page(study(HOSTILE), HOSTILE)
    assert "<script>alert" not in page
    assert "25.0 (20.0–30.0)" in page
    assert "+50.0" in page  # character errors gained through noise
    assert "1 of 1 layers and questions" in page
    assert "0 of 1 layers and questions" in page
    assert "planted (planted attribute)" in page
    assert "3 clips are left out: shorter than 0.4 s" in page
    assert page.count("<svg") == 2 * 2


def test_the_table_has_a_line_for_each_layer() -> None:
    lines = table(study("w"))
    assert lines[0].split() == ["model,", "layer", "words", "words", "accent"]
    assert lines[2].split() == ["w,", "convolutions", "25.0", "75.0", "90.0"]
    assert lines[3].split() == ["w,", "block", "1", "50.0", "50.0", "–"]
    assert lines[4].split() == ["guessing", "50.0"]
    assert "5 training clips, 10 test clips, 1.5 minutes" in lines[-1]


def test_what_can_not_be_probed_is_refused_at_once(
    data: Path, untrained: Path, test_data: Path, pdid: Pdid, tmp_path: Path
) -> None:
    base = ("benchmark", "probe", "--corpus", tmp_path / "c", "--model", untrained)
    done = pdid(*base, "--dataset", data, "--also", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert str(tmp_path) in done.err
    done = pdid(*base, "--dataset", data, "--also", untrained)
    assert (done.code, done.out) == (2, "")
    assert "two models are called 'untrained'" in done.err
    rows = digits_rows(tmp_path, test_data, (("train", "jackson", 1), ("test", "jackson", 1)))
    silent = write_rows(tmp_path / "data.csv", [row | {"text": "…"} for row in rows])
    done = pdid(*base, "--dataset", silent)
    assert (done.code, done.out) == (2, "")
    assert "nothing can be probed in these 2 clips; not asked: accent: two accents" in done.err
    assert not (tmp_path / "c").exists()

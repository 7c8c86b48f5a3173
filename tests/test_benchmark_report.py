"""The benchmark's report: its figures are those of the predictions, and what is missing is shown as missing."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from asr_experiments.arms import make_augment
from asr_experiments.experiment import Experiment
from asr_experiments.report import markdown, triptychs, write
from asr_experiments.report.rates import REFERENCES, comparisons, rates
from asr_experiments.report.results import read_results
from asr_experiments.sanity import SHARES, MethodFigures, SanitySettings, SanityStudy
from asr_experiments.significance import Sample, difference, interval
from asr_experiments.studies import sanity_figures
from catalog.errors import PdidError, UsageError
from tests.browser import NO_BROWSER, Browser, find_browser, start_browser
from tests.experiment_folder import HOSTILE, PERSIAN, add_cell, furnish, make_utterances, whole
from tests.test_report import Page
from tests.test_report_browser import CONTRAST

WORDS = 7  # of the reference, normalised


@pytest.fixture(scope="module")
def experiment(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The whole experiment with its report. Never change it."""
    made = whole(tmp_path_factory.mktemp("experiment") / "corpus", test_data)
    write.write_report(made.corpus, made.experiment_id)
    return made


@pytest.fixture
def few(test_data: Path, tmp_path: Path) -> Experiment:
    """An experiment without a cell yet."""
    return furnish(tmp_path / "corpus", make_utterances(test_data))


def report(experiment: Experiment) -> str:
    return (experiment.folder / write.NAME).read_text("utf-8")


def written(experiment: Experiment) -> str:
    """The report written anew, its markup read strictly, as text."""
    write.write_report(experiment.corpus, experiment.experiment_id)
    Page(report(experiment))
    return html.unescape(report(experiment))


def rows(experiment: Experiment, name: str) -> list[dict[str, str]]:
    with (experiment.folder / write.TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- figures


def test_rates_are_those_of_the_predictions(experiment: Experiment) -> None:
    found = {(r["arm"], r["group"], r["text"], r["unit"]): r for r in rows(experiment, "rates.csv")}
    standard = found["finetune", "standard", "normalised", "WER"]
    # d leaves out one word with each seed, e one with seed 1 only
    assert float(standard["rate"]) == pytest.approx((3 * 1 + 1) / (3 * 2 * WORDS))
    assert (standard["deletions"], standard["substitutions"], standard["words"]) == ("4", "0", str(6 * WORDS))
    by_hand = interval(Sample(("d", "e"), np.array([[1, 0], [1, 1], [1, 0]]), np.array([WORDS, WORDS])))
    assert float(standard["low"]) == by_hand.low
    assert float(standard["high"]) == by_hand.high
    one = found["finetune", HOSTILE, "normalised", "WER"]
    assert one["low"] == ""
    assert one["no_interval"].startswith("one speaker")
    # verbatim, the comma, the quotes and the digit are errors too, and characters are counted apart
    assert float(found["zero-shot", "standard", "raw", "WER"]["rate"]) > float(
        found["zero-shot", "standard", "normalised", "WER"]["rate"]
    )
    characters = found["zero-shot", "all", "normalised", "CER"]
    assert float(characters["rate"]) == pytest.approx(int(characters["char_errors"]) / int(characters["characters"]))
    assert ("finetune", "all", "normalised, joined", "CER") in found
    assert "all" in {r["group_kind"] for r in rows(experiment, "rates.csv")}


def test_differences_are_paired_over_the_common_seeds(experiment: Experiment) -> None:
    found = {(r["arm"], r["reference"], r["group"]): r for r in rows(experiment, "differences.csv")}
    one = found["saliency", "finetune", "standard"]
    assert one["seeds"] == "0; 1"  # the third failed
    words = np.array([WORDS, WORDS])
    arm = Sample(("d", "e"), np.array([[1, 0], [1, 1]]), words)
    assert float(one["difference"]) == difference(arm, arm).estimate == 0.0
    seen = found["saliency", "finetune", "seen accents"]
    theirs = Sample(("f", "g"), np.array([[3, 3], [3, 3]]), words)
    told = difference(Sample(("f", "g"), np.zeros((2, 2), int), words), theirs)
    assert float(seen["difference"]) == pytest.approx(-3 / WORDS)
    assert seen["no_interval"] == told.why
    assert found["zero-shot", "finetune", "all"]["seeds"] == "0; 1; 2"
    assert ("finetune", "finetune", "all") not in found
    back = found["finetune", "zero-shot", "all"]
    assert back["seeds"] == "0; 1; 2"
    assert float(back["difference"]) == -float(found["zero-shot", "finetune", "all"]["difference"]) < 0
    accents = [r for r in found.values() if r["group_kind"] == "accent" and r["p_value"]]
    assert accents
    assert all(float(r["p_holm"]) >= float(r["p_value"]) for r in accents)
    assert all(r["p_holm"] == "" for r in found.values() if r["group_kind"] != "accent")
    tests = [
        r
        for r in rows(experiment, "mapsswe.csv")
        if (r["arm"], r["reference"], r["group"]) == ("saliency", "finetune", "all")
    ]
    assert [r["seed"] for r in tests] == ["0", "1"]
    # d, e, then f and g with finetune, and h, whose five words left out are six: می‌روم is two
    assert [int(r["errors"]) for r in tests] == [1 + 0 + 6, 1 + 1 + 6]
    assert [int(r["reference_errors"]) for r in tests] == [1 + 0 + 3 + 3 + 6, 1 + 1 + 3 + 3 + 6]


def test_failed_and_missing_cells_are_shown_as_such(experiment: Experiment) -> None:
    page = html.unescape(report(experiment))
    states = {(r["arm"], r["seed"]): r["state"] for r in rows(experiment, "cells.csv")}
    assert len(states) == 1 + 8 * 3
    assert states["saliency", "2"] == f"failed: the loss is nan in {HOSTILE}"
    assert states["random", "2"].startswith("missing")
    assert states["finetune", "2"] == "done"
    assert "23 of 25" in page
    assert f"saliency, seed 2: <bdi>failed: the loss is nan in {HOSTILE}</bdi>" in page
    assert "<span>saliency<small> 2 of 3 seeds</small></span>" in page


def test_curves_and_costs(experiment: Experiment) -> None:
    curves = [r for r in rows(experiment, "curves.csv") if (r["arm"], r["seed"]) == ("binary", "1")]
    assert [(r["epoch"], r["loss"], r["dev_loss"], r["share_masked"]) for r in curves] == [
        ("1", "2.0", "2.5", "0.25"), ("2", "1.0", "1.5", "0.25"),
    ]  # fmt: skip
    page = html.unescape(report(experiment))
    assert "memory was short: 4 clips at once, updates unchanged" in page
    assert "1 clip left out: too long" in page
    assert "went on after epoch 1" in page
    assert experiment.data_fingerprint in page


def test_the_page_holds_and_the_paper_stands_beside(experiment: Experiment) -> None:
    text = report(experiment)
    page = Page(text)
    assert len(text) < 10_000_000
    assert "<script>alert" not in text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 * 8  # five test clips, three training ones
    assert all((one["src"] or "").startswith("data:image/png;base64,") and one["alt"] for one in images)
    plain = html.unescape(text)
    assert "128.6 / 93.6" in plain  # the paper's Persian base, pre-trained, accented
    assert "13.3 % relative at best" in plain
    assert "Figures count errors on <strong>normalised text</strong>" in plain
    assert "One speaker each: " in plain
    assert "Not measured: there is no test clip of an accent it was shown." in plain
    assert f"<bdi>{PERSIAN}</bdi>" in text


def test_sounds_can_be_heard(experiment: Experiment) -> None:
    sounds = [a["src"] or "" for tag, a in Page(report(experiment)).tags if tag == "audio"]
    assert len(sounds) == 8
    import base64

    with av.open(io.BytesIO(base64.b64decode(sounds[0].partition(",")[2]))) as heard:
        n = sum(frame.samples for frame in heard.decode(audio=0))
        rate = heard.streams.audio[0].rate
    assert 4.5 < n / rate < 12


# ---------------------------------------------------------------- clips


def test_the_mask_shown_is_the_one_trained_on(experiment: Experiment) -> None:
    results = read_results(experiment.corpus, experiment.experiment_id)
    train = results.of("train")
    ears = triptychs._ears(results, train)
    assert ears.maps is not None
    assert (ears.arm, ears.seed, ears.settings.binary) == ("saliency", 0, 0.4)
    for index, clip in enumerate(train):
        mel, n_valid = ears.mels[index]
        augment = make_augment("saliency", ears.maps, experiment.settings.mask)
        assert augment
        masked, share = augment(mel, n_valid, index, np.random.default_rng([0, 1, index]))
        mask = triptychs._mask(results, clip, ears, ears.maps[index], n_valid)
        assert float(mask[:, :n_valid].mean()) == pytest.approx(share)
        assert np.array_equal(masked == 0, mask | (mel == 0))


def test_two_arms_share_a_seed(experiment: Experiment, few: Experiment) -> None:
    pair = triptychs.two_arms(read_results(experiment.corpus, experiment.experiment_id))
    assert [(one.arm, one.seed) for one in pair] == [("finetune", 0), ("saliency", 0)]
    add_cell(few, "zero-shot", 0)
    assert [one.arm for one in triptychs.two_arms(read_results(few.corpus, few.experiment_id))] == ["zero-shot"]
    add_cell(few, "finetune", 2)
    pair = triptychs.two_arms(read_results(few.corpus, few.experiment_id))
    assert [(one.arm, one.seed) for one in pair] == [("zero-shot", 0), ("finetune", 2)]


# ---------------------------------------------------------------- little or nothing there


def test_no_cell_yet(few: Experiment) -> None:
    with pytest.raises(UsageError, match="catalog"):
        write.write_report(few.corpus, few.experiment_id)
    other = furnish(few.corpus, few.utterances, epochs=3)
    add_cell(other, "zero-shot", 0)
    page = written(few)
    assert "0 of 0" in page
    assert "Nothing to compare" in page
    assert f"../{other.experiment_id}/report.html" not in page  # it has no report yet
    assert f"{other.experiment_id}</span>" in page
    assert "epochs 3" in page


def test_only_zero_shot(few: Experiment) -> None:
    add_cell(few, "zero-shot", 0, {"d": 1})
    page = written(few)
    assert "1 of 1" in page
    assert "None of zero-shot, finetune, specaugment" in page
    assert "Not measured: no arm that needs it was begun." in page
    assert page.count("<img") == 0
    assert "Not measured: the model /no/such/whisper is no longer at hand." in page


def test_every_cell_failed(few: Experiment) -> None:
    add_cell(few, "finetune", 0, error="out of memory")
    add_cell(few, "saliency", 0, error="out of memory")
    page = written(few)
    assert page.count("failed: out of memory") >= 4  # in short, and in the table of cells
    assert 'class="missing">missing' in page
    assert {r["rate"] for r in rows(few, "rates.csv")} == {""}
    assert "missing" in (few.folder / write.TABLES / "wer-by-group.tex").read_text()


def test_one_arm_one_seed_one_speaker_no_dev(test_data: Path, tmp_path: Path) -> None:
    clips = [dataclasses.replace(u, speaker="x") for u in make_utterances(test_data) if u.split != "dev"]
    experiment = furnish(tmp_path / "corpus", clips, standard=None, language="en", score="raw")
    add_cell(experiment, "saliency", 5, {"x": 1})
    page = written(experiment)
    assert "no interval: one speaker" in page
    assert "raw text" in page
    assert "Whisper tiny" in page  # the paper's English table
    assert "1 speaker." in page
    assert [r["seed"] for r in rows(experiment, "cells.csv")] == ["5"]


def test_predictions_that_are_incomplete_are_no_result(few: Experiment) -> None:
    from catalog.store import open_catalog

    add_cell(few, "finetune", 0)
    with open_catalog(few.corpus, write=True) as catalog:
        catalog.connection.execute("DELETE FROM base.prediction WHERE segment_id = ?", [few.of("test")[0].segment_id])
    assert "its predictions are incomplete: 1 of 5 clips have no hypothesis" in written(few)


def test_clips_that_are_gone(test_data: Path, tmp_path: Path) -> None:
    clips = [dataclasses.replace(u, path=tmp_path / "gone" / u.path.name) for u in make_utterances(test_data)]
    experiment = furnish(tmp_path / "corpus", clips)
    add_cell(experiment, "finetune", 0)
    page = written(experiment)
    assert page.count("Not at hand: the clip") == 8


def test_there_is_no_such_experiment(experiment: Experiment) -> None:
    with pytest.raises(PdidError, match="there is no experiment in"):
        write.write_report(experiment.corpus, "whisper-none")


def test_a_report_that_cant_be_written(few: Experiment) -> None:
    add_cell(few, "zero-shot", 0)
    (few.folder / write.NAME).mkdir()
    with pytest.raises(PdidError, match="can't be written"):
        write.write_report(few.corpus, few.experiment_id)


# ---------------------------------------------------------------- beside the matrix


def test_studies_and_siblings(experiment: Experiment, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(experiment.corpus, tmp_path / "corpus"))
    mine = dataclasses.replace(experiment, corpus=corpus)
    scores = {"accuracy": 0.75, "macro_f1": 0.7, "confusion": [[3, 1], [0, 0]]}
    control = {"accuracy": 0.5, "macro_f1": 0.4, "confusion": [[2, 2], [0, 0]]}
    told = {"accents": ["Tehrani", HOSTILE], "scores": scores, "duration_only": control, "pauses_only": control}
    (mine.folder / "classifier" / "scores.json").write_text(
        json.dumps(told | {"n_train": 3, "n_test": 4, "warnings": [HOSTILE]})
    )
    half = (0.5,) * len(SHARES)
    figures = MethodFigures(0.5, 0.5, 0.5, {"saliency": 0.6, "random": 0.9}, 0.5, 0.5, half, half, half, half)
    study = SanityStudy(0.33, 0.97, 9, 6, 2, {"gradcam": figures}, 1.0, SanitySettings())
    (corpus / "runs" / "sanity").mkdir()
    told_of = sanity_figures(study)["gradcam"]
    (corpus / "runs" / "sanity" / "clips-gradcam.json").write_text(json.dumps(told_of))
    (corpus / "runs" / "sanity" / "clips-gradcam++.json").write_text(json.dumps({"pointing": 0.125}))
    (corpus / "runs" / "sanity" / "broken.json").write_text("{")
    sibling = furnish(corpus, experiment.utterances, leave_out=PERSIAN)
    add_cell(sibling, "finetune", 0, {"h": 7})
    page = written(mine)
    assert ">75.0</td>" in page
    assert ">70.0</td>" in page
    assert 'class="share" style="width:75%"' in page or 'style="width:75%" class="share"' in page
    assert "pointing game 0.50, expected 0.9 or more" in page
    assert ">0.12</td>" in page
    assert "9 pieces of speech in training, 6 tested" in page
    assert f'leave_out "{PERSIAN}"; clips on other sides' in page
    assert "not begun: " not in page


def test_longer_training_windows_are_told_apart(few: Experiment) -> None:
    from catalog.experiments import runs, write_run
    from catalog.store import open_catalog

    add_cell(few, "finetune", 0, {"d": 2})
    with open_catalog(few.corpus, write=True) as catalog:
        run = runs(catalog, few.experiment_id)[0]
        full = json.loads(json.dumps(run.metrics["groups"]))
        for group in full:
            group["forms"]["normalised"]["wer"] += 0.1
        from catalog.experiments import predictions

        said = predictions(catalog, run.run_id)
        write_run(catalog, dataclasses.replace(run, metrics=run.metrics | {"groups_full": full}), said)
    page = written(few)
    assert "full less auto, points" in page
    assert page.count(">+10.0</td>") == 4  # all, standard, seen, unseen


# ---------------------------------------------------------------- other forms


def test_latex_is_even_and_escaped(experiment: Experiment) -> None:
    files = sorted((experiment.folder / write.TABLES).glob("*.tex"))
    assert {"wer-by-group.tex", "cer-by-accent-raw.tex", "against-finetune.tex", "cells.tex"} <= {f.name for f in files}
    for file in files:
        lines = file.read_text("utf-8").splitlines()
        n = len((re.search(r"\{(l?r*)\}$", lines[1]) or pytest.fail(file.name))[1])
        for line in lines[3:-2]:
            if line not in (r"\midrule",):
                bare = re.sub(r"\\(?:[&%$#_{}]|textasciitilde\{\}|textbackslash\{\}|textasciicircum\{\})", "", line)
                assert bare.count("&") == n - 1, f"{file.name}: {line}"
                assert not re.search(r"[%#_]", bare)
    assert r"\_\%" in (experiment.folder / write.TABLES / "wer-by-accent.tex").read_text("utf-8")


def test_markdown_has_the_answers_and_even_tables(experiment: Experiment, tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert markdown.main([str(experiment.folder), str(out)]) == 0
    text = out.read_text("utf-8")
    assert "saliency against finetune, seen accents: −42.9" in text
    tables_found = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables_found) >= 10
    for block in tables_found:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert markdown.main([str(tmp_path)]) == 2
    assert markdown.main([str(tmp_path), str(out)]) == 2


def test_the_matrix_of_rates_is_complete(experiment: Experiment) -> None:
    results = read_results(experiment.corpus, experiment.experiment_id)
    assert len(rates(results)) == len(results.arms) * len(results.groups) * 3 * 2
    kinds = [group.kind for group in results.groups]
    assert kinds == ["all", "standard", "seen", "unseen", "accent", "accent", "accent"]
    assert {c.reference for c in comparisons(results)} == set(REFERENCES) & set(results.arms)


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip(NO_BROWSER)
    with start_browser(program, tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_all(browser: Browser, experiment: Experiment, scheme: str) -> None:
    browser.prefer(scheme)
    path = experiment.folder / write.NAME
    for width in (360, 1280):
        browser.size(width, 900)
        browser.open(path)
        browser.run("for (const fold of document.querySelectorAll('details')) fold.open = true")
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalHeight === 80)")
    found = browser.run(CONTRAST)
    assert found["faint"] == []
    assert found["n"] > 1000
    assert browser.complaints() == []
    assert {one for one in browser.requests() if not one.startswith("data:")} == {path.absolute().as_uri()}
    sides = browser.run("""[...document.querySelectorAll('dd[dir=auto]')].map((e) => {
        const range = document.createRange();
        range.selectNodeContents(e);
        return e.getBoundingClientRect().right - range.getBoundingClientRect().right;
    })""")
    assert sides
    assert max(abs(side) for side in sides) < 8  # Persian begins at the right

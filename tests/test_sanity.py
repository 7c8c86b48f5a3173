"""The planted truth: cues lie where the boxes say, and both maps pass the study's bounds on speakers never heard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr_experiments.cam import Method
from asr_experiments.datasets import read_sound
from asr_experiments.features import Floats
from asr_experiments.sanity import (
    CLASSIFIER,
    CORRELATION,
    CUE,
    DEFAULT,
    GAP,
    LEFT,
    NO_CUE,
    POINTING,
    SHARES,
    Box,
    SanitySettings,
    SanityStudy,
    area_under,
    plant,
    rank_correlation,
    sanity_study,
)
from catalog.errors import UsageError

# Half the width and two thirds of the pieces, to be done in half a minute; benchmarks/sanity.py runs the whole.
REDUCED = SanitySettings(
    pieces=4, seed=1, classifier=replace(CLASSIFIER, channels=(16, 32, 64, 128), epochs=16, learning_rate=3e-4)
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def spoken(test_data: Path) -> tuple[list[Floats], list[str]]:
    """The hundred clips of twenty-four readers, and who reads each."""
    paths = [path for name in ("vctk", "librispeech") for path in sorted((test_data / "clips" / name).glob("*.flac"))]
    return [read_sound(path) for path in paths], [path.name.replace("-", "_").split("_")[0] for path in paths]


@pytest.fixture(scope="module")
def study(spoken: tuple[list[Floats], list[str]]) -> SanityStudy:
    clips, speakers = spoken
    names = sorted(set(speakers))
    held_out = [str(name) for name in np.random.default_rng(1).permutation(names)[: len(names) // 4]]
    shares: list[float] = []
    found = sanity_study(clips, speakers, held_out, REDUCED, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return found


def test_the_classifier_hears_the_cue_in_voices_it_never_heard(study: SanityStudy) -> None:
    assert study.chance == 0.5
    assert study.accuracy >= 0.9
    assert study.n_test_speakers == 6
    assert study.n_test >= 80
    assert study.n_train >= 400


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_saliency_passes_on_planted_truth(study: SanityStudy, method: Method) -> None:
    figures = study.methods[method]
    assert figures.pointing >= POINTING == 0.9
    assert figures.pointing_chance < 0.1  # the box and its margin are small
    assert figures.accuracy["saliency"] <= study.chance + LEFT
    assert figures.accuracy["random"] >= figures.accuracy["saliency"] + GAP
    assert abs(figures.randomised_correlation) < CORRELATION == 0.3
    assert figures.failures(study.chance) == ()
    # taking out what is salient costs more, and putting it back helps sooner, than the same shapes elsewhere
    assert area_under(figures.deletion) < area_under(figures.deletion_random)
    assert area_under(figures.insertion) > area_under(figures.insertion_random)
    for curve in (figures.deletion, figures.insertion_random):
        assert len(curve) == len(SHARES)
        assert all(0 <= p <= 1 for p in curve)
    assert figures.deletion[0] == pytest.approx(figures.insertion[-1])  # nothing taken out is all put back


def test_a_miss_is_told(study: SanityStudy) -> None:
    good = study.methods["gradcam++"]
    bad = replace(good, pointing=0.5, accuracy=good.accuracy | {"saliency": 0.8, "random": 0.9})
    told = replace(bad, randomised_correlation=0.4).failures(0.5)
    assert [line.split()[0] for line in told] == ["pointing", "accuracy", "accuracy", "correlation"]


def test_a_cue_lies_in_its_box_and_nowhere_else(spoken: tuple[list[Floats], list[str]]) -> None:
    planted = plant(spoken[0][:6], settings=replace(DEFAULT, pieces=3))
    assert planted.labels == (CUE, NO_CUE) * (len(planted.labels) // 2)
    assert planted.mels.shape.n_frames == 128
    tops: list[int] = []
    for i in range(0, len(planted.labels), 2):
        box = planted.boxes[i]
        assert box is not None
        assert planted.boxes[i + 1] is None
        difference = np.abs(planted.mels[i][0] - planted.mels[i + 1][0])
        inside = difference[box.top : box.bottom, box.start : box.end]
        assert inside.max() > 0.2
        power = difference**2
        near = box.grown(3, planted.mels.shape)
        assert power[near.top : near.bottom, near.start : near.end].sum() > 0.6 * power.sum()
        assert box.start >= 33
        assert box.end <= 96  # every crop of 96 frames has all of it
        tops.append(box.top)
    assert len(set(tops)) > len(tops) // 3  # in another place each time


def test_boxes() -> None:
    box = Box(10, 20, 30, 40)
    assert box.holds(10, 30)
    assert not box.holds(20, 30)
    assert not box.holds(10, 40)


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = np.maximum(rng.normal(size=(2, 10, 12)), 0).astype(np.float32)
    assert rank_correlation(a, b) == pytest.approx(float(spearmanr(a.ravel(), b.ravel()).statistic))
    assert rank_correlation(a, a) == pytest.approx(1)
    assert rank_correlation(a, np.zeros_like(a)) == 0


def test_both_sides_need_speech(spoken: tuple[list[Floats], list[str]]) -> None:
    clips, speakers = spoken
    with pytest.raises(UsageError, match="from speakers in training and others in test"):
        sanity_study(clips[:2], speakers[:2], ["nobody"])
    with pytest.raises(UsageError, match=r"clips of 1\.3 s or more"):
        sanity_study([np.zeros(16_000, np.float32)] * 2, ["a", "b"], ["b"])

"""Parts of the benchmark's report by themselves: pictures, marked texts, the sample of clips, figures as text."""

from __future__ import annotations

import dataclasses
import html
import io
import re
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_experiments.report import picture, tables, triptychs
from catalog.charts import Dot, Dots, dots
from tests.experiment_folder import HOSTILE, PERSIAN, make_utterances


def test_every_accent_is_shown_and_the_draw_is_the_same(test_data: Path) -> None:
    clips = [
        dataclasses.replace(u, segment_id=f"{i}-{u.segment_id}") for i in range(9) for u in make_utterances(test_data)
    ]
    chosen = triptychs.choose(clips, 4)
    assert {clip.accent for clip in chosen} == {"Tehrani", PERSIAN, HOSTILE}
    assert chosen == triptychs.choose(clips, 4)
    assert chosen != triptychs.choose(clips, 4, seed=1)
    assert triptychs.choose([], 4) == []
    assert len(triptychs.choose(clips[:2], 4)) == 2


@pytest.mark.parametrize("width", [7, 799, 801, 3000])
def test_pictures_are_what_they_were_made_of(width: int) -> None:
    values = np.tile(np.linspace(0, 1, 80, dtype=np.float32)[:, None], (1, width))
    mask = np.zeros((80, width), bool)
    mask[:8] = True
    with av.open(io.BytesIO(picture.spectrogram_png(values, mask))) as file:
        seen = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert seen.shape[0] == 80
    assert seen.shape[1] == width // -(-width // picture.WIDEST) <= picture.WIDEST
    assert (seen[-8:] == picture.MASKED).all()  # low frequencies are at the bottom
    assert (seen[0] == picture.SOUND[-1]).all()
    assert (np.diff(seen[:-8].sum(2, dtype=int)[:, 0]) <= 0).mean() > 0.9  # the louder, the lighter
    with av.open(io.BytesIO(picture.map_png(values))) as file:
        assert (next(file.decode(video=0)).to_ndarray(format="rgb24")[-1] == picture.HEAT[0]).all()


def test_silence_can_be_pictured() -> None:
    assert picture.spectrogram_png(np.zeros((80, 100), np.float32)).startswith(b"\x89PNG")


WORD = st.text("ابپa<&", min_size=1, max_size=3)


@given(st.lists(WORD, max_size=6), st.lists(WORD, max_size=6))
def test_marked_differences_hold_both_texts(reference: list[str], hypothesis: list[str]) -> None:
    marked = triptychs.marked_text(" ".join(reference), " ".join(hypothesis))
    steps = re.findall(r'<(span|del|ins|mark)(?: title="(?:for )?([^"]*)")?>([^<]*)</', marked)
    said = [html.unescape(word) for tag, _, word in steps if tag != "del"]
    assert said == (hypothesis if steps and (hypothesis or reference) else said)
    if hypothesis or reference:
        true = [html.unescape(of if tag == "mark" else word) for tag, of, word in steps if tag != "ins"]
        assert true == reference


@pytest.mark.parametrize(
    ("value", "text"), [(-0.0312, "−3.1"), (0.0, "0.0"), (-0.0001, "0.0"), (0.031, "+3.1"), (1.25, "+125.0")]
)
def test_differences_are_written_with_their_sign(value: float, text: str) -> None:
    assert tables.points(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (0.5, "0.50"), (0.0042, "0.004"), (0.00001, "< 0.001"), (1.0, "1.00")]
)
def test_small_probabilities(p: float | None, text: str) -> None:
    assert tables.probability(p) == text


def test_dots_stand_where_their_values_are() -> None:
    drawn = dots("t", [Dots("a", [Dot(0, 0, 0), Dot(50, 25, 100)], 100.0), Dots("b", [None, Dot(100, 0, 100)])],
                 [("x", "c0"), ("y", "c1")], mark="before", unit="%")  # fmt: skip
    xs = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert len(xs) == 3
    assert xs[1] - xs[0] == pytest.approx((xs[2] - xs[0]) / 2, abs=0.2)
    assert "missing" in drawn
    assert "no values" in dots("t", [Dots("a", [None])], [("x", "c0")])

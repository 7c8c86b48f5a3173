"""The page of the study of cues: one HTML file that works offline, with tables, pictures of maps and players."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files

import numpy as np

from asr_experiments.classifier import Classifier
from asr_experiments.datasets import Utterance, read_sound
from asr_experiments.explain.cues import CUES, NAMES
from asr_experiments.explain.deltas import LEVEL, WINDOW, Cell
from asr_experiments.explain.saliency import Way, saliency_maps
from asr_experiments.explain.study import Explained, ExplainStudy
from asr_experiments.features import Floats, Mels
from asr_experiments.report.picture import map_png, spectrogram_png
from asr_experiments.report.triptychs import choose
from catalog.page import (
    Html,
    Number,
    Section,
    bdi,
    data_uri,
    el,
    figure,
    fold,
    join,
    page,
    player,
    table,
    tiles,
)
from catalog.records import RATE
from catalog.sound import encode_mp3

SHOWN = 8  # clips
TITLES: dict[Way, str] = {"gradcam": "Grad-CAM", "lrp": "Layer-wise relevance", "occlusion": "Occlusion"}
STYLE = """
.marked { position: relative; }
.marked i { position: absolute; inset-block: 0; border: 2px solid #fff; outline: 1px solid #000; border-radius: 3px; }
"""


def explain_page(name: str, study: ExplainStudy, made: Classifier, mels: Mels, clips: Sequence[Utterance]) -> str:
    """The page's HTML. `mels` and `clips` are those that the study's clips are numbered in; maps of the few that are
    shown are computed again."""
    sections = [
        _overview(study),
        Section("cues", "Classes and cues", join([_profile(study, way) for way in study.profiles])),
        Section("right-and-wrong", "Right and wrong predictions", join([_apart(study, way) for way in study.profiles])),
        Section("agreement", "Do the three agree?", _agreement(study)),
        Section("clips", "Clips: where it listens", _clips(study, made, mels, clips)),
    ]
    return page(
        f"What the classifier listens to: {name}",
        sections,
        intro=join("Saliency tied to acoustic cues, by class. docs/explain.md says how to read it."),
        foot=join(
            f"Written by pdid {version('pdid')} on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC. This file needs no"
            " network and asks for none."
        ),
        css=[(files("asr_experiments") / "report" / "report.css").read_text("utf-8"), STYLE],
    )


def _overview(study: ExplainStudy) -> Section:
    numbers = [
        ("test clips", f"{len(study.clips):,}"),
        ("speakers", f"{len({clip.speaker for clip in study.clips}):,}"),
        ("told right", f"{study.accuracy:.1%}"),
    ]
    remarks = [*study.notes, *(f"{n} test clips are {why}" for why, n in study.skipped.items())]
    said = el("ul", [el("li", remark) for remark in remarks]) if remarks else None
    lines = [
        el("li", TITLES[way], ", ", bdi(label), ": ", _counting(study, way, label))
        for way in study.profiles
        for label in study.classes
    ]
    note = f"Cues that count: p under {LEVEL} for place and class both, after Holm. The sign says which way."
    return Section("overview", "Overview", join(tiles(numbers), said, figure("In short", el("ul", lines), note=note)))


def _counting(study: ExplainStudy, way: Way, label: str) -> str:
    own = [cell for cell in study.profiles[way].all if cell.label == label and cell.counts]
    own.sort(key=lambda cell: -abs(cell.effect or 0))
    return ", ".join(f"{cell.cue} {_signed(cell.effect)}" for cell in own) or "none"


def _profile(study: ExplainStudy, way: Way) -> Html:
    found = study.profiles[way].all
    units = {cue.name: cue.unit for cue in CUES}
    every = [
        (
            join(bdi(cell.label), f", {cell.cue}"),
            cell.n_clips,
            cell.n_speakers,
            Number(f"{cell.delta:+.3g} {units[cell.cue]}") if cell.delta is not None else None,
            Number(_signed(cell.effect)),
            Number(_signed(cell.contrast)),
            *(Number(f"{p:.3f}") if p is not None else None for p in (cell.p_place, cell.p_class, cell.p)),
        )
        for cell in found
    ]
    columns = ["class, cue", "clips", "speakers", "Δ", "effect", "contrast", "p place", "p class", "p both, Holm"]
    return figure(
        TITLES[way],
        _grid(f"{TITLES[way]}: class × cue, effect", found, study.classes),
        note="Salient windows less the whole clip, in standard deviations of windows at random; ★: the cue counts.",
        folds=[fold("All figures", table(f"{TITLES[way]}: all figures", columns, every))],
    )


def _grid(caption: str, cells: Sequence[Cell], labels: Sequence[str], star: bool = True) -> Html:
    by = {(cell.label, cell.cue): cell for cell in cells}
    rows = []
    for label in labels:
        own = [by.get((label, cue)) for cue in NAMES]
        marks = ["★" if cell and cell.counts and star else "" for cell in own]
        rows.append(
            [bdi(label), *(Number(_signed(c.effect) + mark) if c else None for c, mark in zip(own, marks, strict=True))]
        )
    return table(caption, ["class", *NAMES], rows)


def _apart(study: ExplainStudy, way: Way) -> Html:
    profile = study.profiles[way]
    wrong = sum(clip.said != clip.label for clip in study.clips)
    if not profile.wrong:
        return figure(TITLES[way], el("p", "No prediction was wrong."))
    told = {label: value for label, value in profile.likeness.items() if value is not None}
    likeness = ", ".join(f"{label} {value:+.2f}" for label, value in told.items())
    labels = list(dict.fromkeys(cell.label for cell in (*profile.right, *profile.wrong)))
    note = (
        f"By the predicted class; {wrong} predictions are wrong. Correlation of wrong with right ones over the cues:"
        f" {likeness or 'too few to say'}. ★: other than at random places (Holm); classes are not compared here."
    )
    return figure(
        TITLES[way],
        _grid(f"{TITLES[way]}: right predictions", profile.right, labels),
        _grid(f"{TITLES[way]}: wrong predictions", profile.wrong, labels),
        note=note,
    )


def _agreement(study: ExplainStudy) -> Html:
    rows = [
        (
            f"{TITLES[one.first]} and {TITLES[one.second]}",
            Number(f"{one.shared:.0%}"),
            Number(f"{one.by_chance:.0%}"),
            Number(f"{one.correlation:+.2f}"),
        )
        for one in study.agreement
    ]
    return figure(
        "Two by two",
        table("Agreement", ["", "windows shared", "at random", "rank correlation"], rows),
        note="Means over the clips: of the salient frames, the share that both have; and of relevance over time.",
    )


def _clips(study: ExplainStudy, made: Classifier, mels: Mels, clips: Sequence[Utterance]) -> Html:
    number = {clips[one.clip].segment_id: one for one in study.clips}
    shown = [number[clip.segment_id] for clip in choose([clips[one.clip] for one in study.clips], SHOWN)]
    order = [one.clip for one in shown]
    said = [made.accents.index(one.said) for one in shown]
    maps = {way: saliency_maps(made, mels, order, said, way) for way in study.profiles}
    cards = []
    for k, one in enumerate(shown):
        own = {way: maps[way][k] for way in maps}
        cards.append(_card(k, one, clips[one.clip], mels[one.clip][0][:, : one.n_frames], own))
    intro = el("p", f"{len(shown)} test clips, drawn at random class by class. The five windows are framed.")
    return join(intro, cards)


def _card(k: int, one: Explained, clip: Utterance, features: Floats, maps: dict[Way, Floats]) -> Html:
    sound = encode_mp3(read_sound(clip.path)[: one.n_frames * RATE // 100])
    pictures = [_picture(f"Sound, clip {k + 1}", "Sound", spectrogram_png(features), (), one.n_frames)]
    for way, found in maps.items():
        seen = np.asarray(np.maximum(found, 0) / max(float(found.max()), 1e-9), np.float32)
        places = ", ".join(f"{start / 100:.2f} s" for start in one.starts[way])
        alt = f"{TITLES[way]}, clip {k + 1}: windows at {places}"
        pictures.append(_picture(alt, TITLES[way], map_png(seen), one.starts[way], one.n_frames))
    verdict = "rightly" if one.said == one.label else "wrongly"
    return el(
        "article",
        el("h3", bdi(one.label)),
        el("p", "Taken for ", bdi(one.said), f", {verdict}. Speaker ", bdi(one.speaker), class_="note"),
        el("div", pictures, class_="triptych"),
        player(f"Clip {k + 1}, {one.label}", sound) if sound else None,
        class_="card clip",
    )


def _picture(alt: str, caption: str, png: bytes, starts: Sequence[int], n_frames: int) -> Html:
    share = 100 / n_frames
    frames = [
        el("i", style=f"left:{start * share:.2f}%;width:{WINDOW * share:.2f}%", aria_hidden="true") for start in starts
    ]
    image = el("img", src=data_uri(png, "image/png"), alt=alt)
    return el("figure", el("div", image, frames, class_="marked"), el("figcaption", caption))


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"

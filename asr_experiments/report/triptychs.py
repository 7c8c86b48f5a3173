"""Clips to look at and listen to: spectrogram, saliency and mask, and what two arms heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from asr_experiments.arms import WITHOUT_MAPS
from asr_experiments.datasets import Utterance
from asr_experiments.masking import Mask, MaskSettings, SpecAugment, arm_mask
from asr_experiments.report import tables
from asr_experiments.report.picture import map_png, spectrogram_png
from asr_experiments.report.results import Results
from asr_experiments.scoring import align, text_forms
from catalog.errors import PdidError
from catalog.page import Html, Section, bdi, data_uri, el, figure, join, player
from catalog.records import RATE

if TYPE_CHECKING:  # torch, which a report without a classifier does not need
    from transformers import WhisperFeatureExtractor

    from asr_experiments.cam import SaliencyMaps
    from asr_experiments.features import Floats, LogMels

N_TEST, N_TRAIN = 8, 4  # clips shown
SEED = 0  # of their choice
MOST_S = 30  # of a sound
BY_SALIENCY = ("saliency", "saliency++", "binary")
AGAINST = ("finetune", "specaugment", "specaugment-matched", "random", "swapped", "zero-shot")


@dataclass(frozen=True, slots=True)
class Heard:
    """What an arm heard in the test clips, in one of its seeds."""

    arm: str
    seed: int
    hypotheses: dict[str, str]  # by segment_id


@dataclass(frozen=True, slots=True)
class Ears:
    """What pictures are made with; `maps` is None where there is no classifier."""

    mels: LogMels
    maps: SaliencyMaps | None
    settings: MaskSettings
    arm: str  # whose masks are shown
    seed: int


def choose(utterances: Sequence[Utterance], n: int, seed: int = SEED) -> list[Utterance]:
    """`n` clips drawn at random, accent by accent in turn, so that each is heard."""
    rng = np.random.default_rng(seed)
    shuffled = [utterances[i] for i in rng.permutation(len(utterances))]
    by_accent: dict[str, list[Utterance]] = {}
    for utterance in shuffled:
        by_accent.setdefault(utterance.accent, []).append(utterance)
    turns = [(turn, accent, clip) for accent, clips in by_accent.items() for turn, clip in enumerate(clips)]
    chosen = [clip for _, _, clip in sorted(turns, key=lambda one: one[:2])[:n]]
    return sorted(chosen, key=lambda clip: (clip.accent, clip.segment_id))


def two_arms(results: Results) -> list[Heard]:
    """The two arms that are most worth comparing, by a masked one and a plain one, with their lowest common seed."""
    masked = next((arm for arm in BY_SALIENCY if arm in results.finished), None)
    plain = next((arm for arm in AGAINST if arm in results.finished), None)
    pair = [arm for arm in (plain, masked) if arm]
    if not masked and plain:  # two plain ones
        pair = [arm for arm in reversed(AGAINST) if arm in results.finished and arm != plain][:1]
        pair.append(plain)
    seeds = [set(results.scored(arm)) for arm in pair]
    common = set.intersection(*seeds) if seeds else set()
    heard = []
    for arm in pair:
        seed = min(common or results.scored(arm))
        heard.append(Heard(arm, seed, {s.segment_id: s.hypothesis for s in results.scored(arm)[seed]}))
    return heard


def triptychs(results: Results) -> Section:
    """A sample of test and training clips, drawn by a seed, not picked."""
    test, train = choose(results.of("test"), N_TEST), choose(results.of("train"), N_TRAIN)
    heard = two_arms(results)
    clips = [*test, *train]
    try:
        ears, missing = _ears(results, clips), None
    except PdidError as error:
        ears, missing = None, str(error)
    without = ears is None or ears.maps is None
    cards = [_card(results, clip, i, ears, heard) for i, clip in enumerate(clips)]
    shown = f" Masks are {ears.arm}'s, as drawn in the first epoch of seed {ears.seed}." if ears and ears.maps else ""
    intro = el(
        "p",
        f"{len(test)} test and {len(train)} training clips, drawn at random accent by accent. Saliency is where the"
        f" accent classifier listens; what the mask takes out is pale.{shown}",
    )
    why = missing or ("its classifier is not trained yet" if _needs_maps(results) else "no arm that needs it was begun")
    note = figure("Saliency", el("p", f"Not measured: {why}.")) if without else None
    return Section("clips", "Clips: sound, saliency, mask", join(intro, note, cards))


def _ears(results: Results, clips: Sequence[Utterance]) -> Ears:
    """Raises PdidError where neither the model nor the classifier says what a spectrogram looks like."""
    from asr_experiments.features import LogMels

    folder = results.folder / "classifier"
    trained = (folder / "classifier.json").exists()
    arms = [arm for arm in BY_SALIENCY if arm in results.arms]
    arm = arms[0] if arms else "saliency"
    mels = LogMels([clip.path for clip in clips], _extractor(results), results.corpus / "runs" / "cache")
    maps = None
    if trained:
        from asr_experiments.cam import CamSettings, SaliencyMaps
        from asr_experiments.classifier import load_classifier

        cam = CamSettings(**results.settings["cam"])
        cam = replace(cam, method="gradcam++" if arm == "saliency++" else "gradcam")
        maps = SaliencyMaps(load_classifier(folder), mels, cam, [clip.accent for clip in clips])
    seed = min(results.seeds_of(arm) or results.seeds or (0,))
    return Ears(mels, maps, mask_settings(results.settings["mask"]), arm, seed)


def _extractor(results: Results) -> WhisperFeatureExtractor:
    """The model's feature extractor, from the model's folder, else from one that a cell has left."""
    from transformers import WhisperFeatureExtractor

    from catalog.whisper_files import find_whisper

    folders = sorted(results.folder.glob("cells/*/model"))
    try:
        found = find_whisper(results.settings["model"])
        folders = [found.folder, *folders] if found else folders
    except PdidError:  # the model has gone: a cell's is as good
        pass
    for folder in folders:
        try:
            made: WhisperFeatureExtractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
            return made
        except (OSError, ValueError):
            continue
    raise PdidError(f"the model {results.settings['model']} is no longer at hand")


def mask_settings(told: dict[str, Any]) -> MaskSettings:
    """Mask settings as experiment.json keeps them."""
    lists = {name: tuple(told[name]) for name in ("thresholds", "low", "high")}
    return MaskSettings(**(told | lists | {"specaugment": SpecAugment(**told["specaugment"])}))


def _card(results: Results, clip: Utterance, i: int, ears: Ears | None, heard: Sequence[Heard]) -> Html:
    seconds = f"{clip.n_samples / RATE:.1f} s"
    title = join(bdi(clip.accent), f", {'test' if clip.split == 'test' else 'training'}")
    about = el("p", "Speaker ", bdi(clip.speaker), f", {seconds}, ", el("code", clip.segment_id), class_="note")
    try:
        seen: Html | None = _pictures(results, clip, i, ears) if ears else None
        sound: Html | None = _sound(clip, i)
    except PdidError as error:
        seen, sound = None, el("p", f"Not at hand: {error}.", class_="missing")
    text = _texts(results, clip, heard if clip.split == "test" else ())
    return el("article", el("h3", title), about, seen, sound, text, class_="card clip")


def _sound(clip: Utterance, i: int) -> Html | None:
    from asr_experiments.datasets import read_sound
    from catalog.sound import encode_mp3

    sound = encode_mp3(read_sound(clip.path)[: MOST_S * RATE])
    return player(f"Clip {i + 1}, {clip.accent}", sound) if sound else None


def _pictures(results: Results, clip: Utterance, i: int, ears: Ears) -> Html:
    features, n_valid = ears.mels[i]
    mel = features[:, :n_valid]
    pictures = [("Sound", spectrogram_png(mel), "Log-mel spectrogram")]
    if ears.maps:
        saliency = ears.maps[i]
        mask = _mask(results, clip, ears, saliency, n_valid)[:, :n_valid]
        share = tables.percent(float(mask.mean()))
        pictures += [
            ("Saliency", map_png(saliency[:, :n_valid]), "Map of where the classifier listens: the brighter, the more"),
            (f"Masked, {share} %", spectrogram_png(mel, mask), f"The same spectrogram with {share} % of it masked"),
        ]
    shown = [
        el("figure", el("img", src=data_uri(png, "image/png"), alt=f"{alt}, clip {i + 1}"), el("figcaption", what))
        for what, png, alt in pictures
    ]
    return el("div", shown, class_="triptych")


def _mask(results: Results, clip: Utterance, ears: Ears, saliency: Floats, n_valid: int) -> Mask:
    """The mask that training draws for a clip in its first epoch; for a test clip, as it would."""
    side = results.of(clip.split)
    index = next(k for k, other in enumerate(side) if other.segment_id == clip.segment_id)
    rng = np.random.default_rng([ears.seed, 1 if ears.settings.fresh else 0, index])  # as make_batch does it
    return arm_mask("binary" if ears.arm == "binary" else "saliency", saliency, n_valid, rng, ears.settings)


# ---------------------------------------------------------------- what was said and heard


def _texts(results: Results, clip: Utterance, heard: Sequence[Heard]) -> Html:
    normalise = text_forms(results.language)[results.form]
    language = results.language
    lines = [el("dt", "said"), el("dd", clip.text, dir="auto", lang=language)]
    for one in heard:
        told = one.hypotheses.get(clip.segment_id, "")
        marked = marked_text(normalise(clip.text), normalise(told))
        lines += [el("dt", f"{one.arm}, seed {one.seed}"), el("dd", marked, dir="auto", lang=language)]
    return el("dl", lines, class_="heard")


def marked_text(reference: str, hypothesis: str) -> Html:
    """A hypothesis with its differences from the reference marked: what was left out struck through, what was added
    underlined, what was mistaken marked, with the word it stands for. Normalise both first."""
    words: list[Html] = []
    for step in align(reference, hypothesis):
        if step.kind == "correct":
            words.append(el("span", step.hypothesis))
        elif step.kind == "deleted":
            words.append(el("del", step.reference, title="left out"))
        elif step.kind == "inserted":
            words.append(el("ins", step.hypothesis, title="added"))
        else:
            words.append(el("mark", step.hypothesis, title=f"for {step.reference}"))
    return join([join(word, " ") for word in words]) if words else el("span", "(nothing)", class_="missing")


def _needs_maps(results: Results) -> bool:
    """Whether an arm was begun that looks at saliency maps."""
    return any(arm not in WITHOUT_MAPS for arm in results.arms)

"""What the probes learn from and what they are tested on: accent, speaker, channel and words.

Whoever is tested for accent or channel was not trained on; a speaker can only be known again, so there the clips, or
the recordings where there are several, are others. Every test is made in domain, with noise and over the telephone;
where the label allows, on accents that are not in training too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from asr_experiments.datasets import Utterance, shared_speakers
from asr_experiments.probing.shifts import SOUNDS, Sound

IN, NOISE, TELEPHONE, UNSEEN = "in domain", "noise", "telephone", "unseen accent"
DOMAINS = (IN, NOISE, TELEPHONE, UNSEEN)
ACCENT, SPEAKER, CHANNEL, WORDS = "accent", "speaker", "channel", "words"
TASKS = (ACCENT, SPEAKER, CHANNEL, WORDS)

FOLDS = 5
"""Groups that are held out in turn at most."""
SPEAKERS = 20
"""Told apart at most, those with the most clips."""
FEWEST = 3
"""Clips a speaker has at least to be told from others."""

_SHIFTED: Mapping[str, Sound] = {IN: "clean", NOISE: "noise", TELEPHONE: "telephone"}


@dataclass(frozen=True, slots=True)
class Item:
    """A clip, by its number, as it sounds, and what is to be read off it."""

    clip: int
    sound: Sound
    label: str


@dataclass(frozen=True, slots=True)
class Fold:
    """What a probe is trained on, and what it is tested on by domain."""

    train: tuple[Item, ...]
    tests: Mapping[str, tuple[Item, ...]]


@dataclass(frozen=True, slots=True)
class Task:
    """Something to read off a layer. `groups` are all clips' (speakers or recordings); `notes` say what to know."""

    name: str
    classes: tuple[str, ...]  # empty for words
    folds: tuple[Fold, ...]
    groups: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(d for d in DOMAINS if any(fold.tests.get(d) for fold in self.folds))

    def items(self) -> Iterator[Item]:
        """Everything that is asked of the layers."""
        for fold in self.folds:
            yield from fold.train
            for tested in fold.tests.values():
                yield from tested


def accent_task(clips: Sequence[Utterance]) -> Task | str:
    """Which accent, in voices the probe has not heard; the reason where that can't be asked."""
    groups = tuple(clip.speaker for clip in clips)
    made, out = held_out(clips, [clip.accent for clip in clips], groups)
    notes = [f"left out of the accent probe, with one speaker: {', '.join(out)}"] if out else []
    if not made:
        return "accent: two accents with a speaker to train on and another to test are needed"
    classes = tuple(sorted({clips[i].accent for train, _ in made for i in train}))
    folds = [_fold(train, test, [clip.accent for clip in clips]) for train, test in made]
    if len(made) > 1:
        notes.append(f"accent: {len(made)} folds, a speaker of each accent held out in turn")
    return Task(ACCENT, classes, tuple(folds), groups, tuple(notes))


def speaker_task(clips: Sequence[Utterance], seed: int) -> Task | str:
    """Who speaks, in clips (in recordings, where a speaker has several) the probe has not heard."""
    own: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        own.setdefault(clip.speaker, []).append(i)
    known = sorted((s for s in own if len(own[s]) >= FEWEST), key=lambda s: (-len(own[s]), s))[:SPEAKERS]
    sides = [side for speaker in known if (side := _two_sides(clips, own[speaker], seed))]
    if len(sides) < 2:
        return f"speaker: two speakers with {FEWEST} clips or more are needed"
    train, test = (sorted(i for side in sides for i in side[k]) for k in (0, 1))
    classes = tuple(sorted({clips[i].speaker for i in train}))
    shared = {clips[i].source for i in train} & {clips[i].source for i in test}
    note = "speaker: the clips tested are others than those trained on, " + (
        "but from the same recordings or from none that are named" if shared else "from other recordings"
    )
    fold = _fold(train, test, [clip.speaker for clip in clips])
    return Task(SPEAKER, classes, (fold,), tuple(clip.segment_id for clip in clips), (note,))


def channel_task(clips: Sequence[Utterance], channels: Sequence[str | None]) -> Task | str:
    """Which channel: who published the recording, in recordings the probe has not heard; where the corpus does not say,
    which of the shifts a clip went through, in voices it has not heard."""
    groups = tuple(clip.source for clip in clips)
    made, _ = held_out(clips, channels, groups)
    if made:
        labels = [channel or "" for channel in channels]
        classes = tuple(sorted({labels[i] for train, _ in made for i in train}))
        return Task(CHANNEL, classes, tuple(_fold(train, test, labels) for train, test in made), groups)
    groups = tuple(clip.speaker for clip in clips)
    seen = {clip.accent for clip in clips if clip.split == "train"}
    made, _ = held_out(clips, ["all" if clip.accent in seen else None for clip in clips], groups, classes=1)
    if not made:
        return "channel: a speaker to train on and another to test are needed"
    unseen = [i for i, clip in enumerate(clips) if clip.split == "test" and clip.accent not in seen]
    turn: dict[str, int] = {}  # every speaker is heard through every channel
    through: list[Sound] = []
    for clip in clips:
        turn[clip.speaker] = turn.get(clip.speaker, -1) + 1
        through.append(SOUNDS[turn[clip.speaker] % len(SOUNDS)])
    folds = tuple(
        Fold(
            tuple(Item(i, through[i], through[i]) for i in train),
            {
                domain: tuple(Item(i, sound, sound) for i in tested for sound in SOUNDS)
                for domain, tested in ((IN, test), (UNSEEN, unseen))
                if tested
            },
        )
        for train, test in made
    )
    note = f"channel: planted ({', '.join(SOUNDS)}), told apart in other voices"
    return Task(CHANNEL, tuple(sorted(SOUNDS)), folds, groups, (note,))


def words_task(clips: Sequence[Utterance], texts: Sequence[str]) -> Task | str:
    """What is said: the characters of `texts`, all clips' own; those without any are left out."""
    usable = [i for i, text in enumerate(texts) if text]
    train = [i for i in usable if clips[i].split == "train"]
    seen = {clips[i].accent for i in train}
    tested = [i for i in usable if clips[i].split == "test"]
    known = [i for i in tested if clips[i].accent in seen]
    unseen = [i for i in tested if clips[i].accent not in seen]
    heard = {clips[i].speaker for i in train}
    new = [i for i in known if clips[i].speaker not in heard]
    if not train or not tested:
        return "words: transcribed clips in training and in test are needed"
    notes = []
    if known and not new:
        both = len(shared_speakers([clips[i] for i in (*train, *known)]))
        notes.append(f"words: in domain, all {both} speakers tested are also trained on; no other has a seen accent")
    fold = _fold(train, new or known, texts)
    tests = dict(fold.tests) | ({UNSEEN: tuple(Item(i, "clean", texts[i]) for i in unseen)} if unseen else {})
    groups = tuple(clip.speaker for clip in clips)
    return Task(WORDS, (), (Fold(fold.train, tests),), groups, tuple(notes))


def held_out(
    clips: Sequence[Utterance], labels: Sequence[str | None], groups: Sequence[str], classes: int = 2
) -> tuple[list[tuple[list[int], list[int]]], list[str]]:
    """Folds of (training clips, test clips) with no group on both sides, and the labels that allow none.

    Groups that are in test alone are held out; where a label has none, those of its groups that have test clips and
    leave others to train on are held out in turn. No folds where fewer than `classes` labels are left.
    """
    turns: dict[str, list[set[str]]] = {}
    out = []
    for label in sorted({label for label in labels if label is not None}):
        at = {
            side: {groups[i] for i, clip in enumerate(clips) if labels[i] == label and clip.split == side}
            for side in ("train", "test")
        }
        new = at["test"] - at["train"]
        if at["train"] and new:
            turns[label] = [new]
        elif one := [{group} for group in sorted(at["test"]) if at["train"] - {group}]:
            turns[label] = one
        elif at["train"]:
            out.append(label)
    if len(turns) < classes:
        return [], out
    folds = []
    for k in range(min(FOLDS, max(map(len, turns.values())))):
        held = set().union(*(each[k % len(each)] for each in turns.values()))
        mine = [i for i, label in enumerate(labels) if label in turns]
        train = [i for i in mine if clips[i].split == "train" and groups[i] not in held]
        folds.append((train, [i for i in mine if clips[i].split == "test" and groups[i] in held]))
    return folds, out


def _two_sides(clips: Sequence[Utterance], own: Sequence[int], seed: int) -> tuple[list[int], list[int]] | None:
    """A speaker's clips to train on and to test: the split's sides where it has both and they share no recording, or
    there is just one; else a third of the recordings, or of the only recording's clips, is for test."""
    train = [i for i in own if clips[i].split == "train"]
    test = [i for i in own if clips[i].split == "test"]
    sources = sorted({clips[i].source for i in own})
    if train and test and (len(sources) == 1 or not {clips[i].source for i in train} & {clips[i].source for i in test}):
        return train, test
    parts = sources if len(sources) > 1 else sorted(clips[i].segment_id for i in own)
    held = set(random.Random(seed).sample(parts, max(1, len(parts) // 3)))
    of = [clips[i].source if len(sources) > 1 else clips[i].segment_id for i in own]
    sides = ([i for i, part in zip(own, of, strict=True) if part not in held],
             [i for i, part in zip(own, of, strict=True) if part in held])  # fmt: skip
    return sides if all(sides) else None


def _fold(train: Sequence[int], test: Sequence[int], labels: Sequence[str]) -> Fold:
    """Clean clips to train on; the test clips clean, with noise and over the telephone."""
    tests = {d: tuple(Item(i, sound, labels[i]) for i in test) for d, sound in _SHIFTED.items() if test}
    return Fold(tuple(Item(i, "clean", labels[i]) for i in train), tests)

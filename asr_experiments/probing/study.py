"""Invariant, or only suppressed? Layer by layer, how much of accent, speaker, channel and words a model keeps.

After the probing of visually grounded speech models by Hsu, Harwath & Glass, "Transfer Learning from Audio-Visual
Grounding to Speech Recognition" (arXiv 1907.04355). What a linear probe reads off a layer is still there; that is no
proof that the model uses it. Log-mels and random weights say what is no merit of training, shuffled labels what is
none of the data, and a planted attribute that the probes find what there is to find.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_experiments.datasets import Utterance, read_sound, require_splits
from asr_experiments.features import Floats, Progress
from asr_experiments.probing import measure
from asr_experiments.probing.cka import linear_cka
from asr_experiments.probing.features import Layers, hop_of
from asr_experiments.probing.figures import DEFAULT, Control, Figure, Likeness, Place, ProbeSettings, ProbeStudy
from asr_experiments.probing.shifts import shifted
from asr_experiments.probing.sides import WORDS, Task, accent_task, channel_task, speaker_task, words_task
from asr_experiments.probing.store import Key, Store
from asr_experiments.studies import by_turns
from catalog.errors import UsageError
from catalog.records import RATE
from catalog.text import is_persian, normaliser, persian

SHORTEST = 2 * RATE // 5
"""Samples a clip has at least: under 0.4 s the coarsest layers have too few frames to say anything."""

CKA_WINDOW = 4 * RATE // 25
"""Samples over which frames are averaged before layers are compared: 0.16 s, the coarsest layers' frame."""

FEWEST_WINDOWS = 4
"""That CKA can be estimated from."""

Report = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done, 0 to 1."""


def probe_study(
    utterances: Sequence[Utterance],
    models: Sequence[Layers],
    language: str | None,
    scratch: Path,
    settings: ProbeSettings = DEFAULT,
    channels: Mapping[str, str] | None = None,
    device: str = "cpu",
    report: Report = lambda what, share: None,
) -> ProbeStudy:
    """Probe every layer of `models` for all that can be asked of the clips; `channels` are recordings' by source.

    `scratch` takes frames while it runs. Raises UsageError, before any layer is computed, without training or test
    clips, with two models of one name, or where nothing can be asked; PdidError where a clip can't be read.
    """
    begun = time.monotonic()
    planned = plan(utterances, models, language, settings, channels)
    clips, tasks, notes = planned.clips, planned.tasks, list(planned.notes)
    figures: list[Figure] = []
    controls: list[Control] = []
    windows: dict[str, list[Floats]] = {}
    frame_ms: dict[str, tuple[int, ...]] = {}
    most = max(tasks, key=lambda task: len(task.folds[0].train))  # has voices on both sides where any has
    for model in models:
        with Store(len(model.names), scratch) as store:

            def computed(share: float, name: str = model.name) -> None:
                report(f"{name}: layers", share)

            windows[model.name], hops = _fill(store, model, clips, tasks, settings, computed)
            frame_ms[model.name] = tuple(hop * 1000 // RATE for hop in hops)
            few: list[int] = []
            for depth, layer in enumerate(model.names):
                place = Place(model.name, layer, depth)
                for task in tasks:
                    if task.name == WORDS:
                        made, too_few = measure.words(place, store, hops[depth], clips, task, settings, device)
                        few.append(too_few)
                    else:
                        made, shuffled = measure.linear(place, store, clips, task, settings)
                        controls.append(shuffled)
                    figures += made
                controls += measure.planted(place, store, most, settings)
                report(f"{model.name}: probes", (depth + 1) / len(model.names))
            if any(few):
                counts = ", ".join(f"{n} in {layer}" for n, layer in zip(few, model.names, strict=True) if n)
                notes.append(f"words, {model.name}: training clips with more characters than steps left out: {counts}")
    return ProbeStudy(
        models={model.name: tuple(model.names) for model in models},
        frame_ms=frame_ms,
        figures=tuple(figures),
        controls=tuple(controls),
        likeness=_likeness(windows, report),
        notes=tuple(notes),
        left_out=planned.left_out,
        n_train=sum(clip.split == "train" for clip in clips),
        n_test=sum(clip.split == "test" for clip in clips),
        seconds=time.monotonic() - begun,
        settings=settings,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of which clips; `left_out` counts those that can't be used, by reason."""

    clips: tuple[Utterance, ...]
    tasks: tuple[Task, ...]
    notes: tuple[str, ...]
    left_out: dict[str, int]


def plan(
    utterances: Sequence[Utterance],
    models: Sequence[Layers],
    language: str | None,
    settings: ProbeSettings = DEFAULT,
    channels: Mapping[str, str] | None = None,
) -> Plan:
    """What can be asked, without a sound being read. Raises UsageError as `probe_study` does."""
    twice = [name for name, n in Counter(model.name for model in models).items() if n > 1]
    if twice:
        raise UsageError(f"two models are called {twice[0]!r}: rename a folder, for tables go by name")
    clips, left_out = choose(utterances, models, settings)
    tasks, notes = questions(clips, language, channels or {}, settings.seed)
    empty = sum(not text for text in texts_of(clips, language))
    if empty:
        left_out["from words: the transcript has no letter or digit"] = empty
    return Plan(tuple(clips), tuple(tasks), tuple(notes), left_out)


def choose(
    utterances: Sequence[Utterance], models: Iterable[Layers], settings: ProbeSettings
) -> tuple[list[Utterance], dict[str, int]]:
    """Training clips, test clips of accents that are in training, and test clips of others, each up to its number and
    a speaker's turn by turn; and how many clips can't be used, by reason.

    Raises UsageError where training or test has no clip that can be used.
    """
    require_splits(utterances, ("train", "test"))
    longest = min((model.longest for model in models if model.longest is not None), default=None)
    reasons = {
        f"shorter than {SHORTEST / RATE:g} s": [u.n_samples < SHORTEST for u in utterances],
        f"longer than the {(longest or 0) / RATE:g} s a model takes": [
            longest is not None and u.n_samples > longest for u in utterances
        ],
    }
    left_out = {reason: sum(which) for reason, which in reasons.items() if any(which)}
    usable = [u for i, u in enumerate(utterances) if not any(which[i] for which in reasons.values())]
    for side in ("train", "test"):
        if not any(u.split == side for u in usable):
            why = ", ".join(f"{n} are {reason}" for reason, n in left_out.items())
            raise UsageError(f"no {side} clip can be probed: {why}; give clips of other lengths, or another model")
    train = [u for u in usable if u.split == "train"]
    test = [u for u in usable if u.split == "test"]
    seen = {u.accent for u in train}
    rng = random.Random(settings.seed)
    chosen = by_turns(train, settings.train_clips, rng)
    chosen += by_turns([u for u in test if u.accent in seen], settings.test_clips, rng)
    return chosen + by_turns([u for u in test if u.accent not in seen], settings.unseen_clips, rng), left_out


def texts_of(clips: Sequence[Utterance], language: str | None) -> list[str]:
    """What a reader is to write: letters, digits and single spaces in one spelling; spoken digits stay words."""
    write = persian if is_persian(language) else normaliser(None)
    return [write(clip.text) for clip in clips]


def questions(
    clips: Sequence[Utterance], language: str | None, channels: Mapping[str, str], seed: int
) -> tuple[list[Task], list[str]]:
    """What can be asked of the clips, and what to know of it. Raises UsageError where nothing can be."""
    asked = (
        accent_task(clips),
        speaker_task(clips, seed),
        channel_task(clips, [channels.get(clip.source) for clip in clips]),
        words_task(clips, texts_of(clips, language)),
    )
    tasks = [task for task in asked if isinstance(task, Task)]
    notes = [f"not asked: {task}" for task in asked if isinstance(task, str)]
    if not tasks:
        raise UsageError(f"nothing can be probed in these {len(clips)} clips; {'; '.join(notes)}")
    return tasks, notes + [note for task in tasks for note in task.notes]


def _fill(
    store: Store,
    model: Layers,
    clips: Sequence[Utterance],
    tasks: Sequence[Task],
    settings: ProbeSettings,
    progress: Progress,
) -> tuple[list[Floats], list[int]]:
    """Compute every layer for every clip and sound that is asked for. Returns, for each layer, the windows that CKA
    compares, (n, width), and the samples from frame to frame."""
    wanted: dict[int, set[Key]] = {}
    framed: set[Key] = set()
    for task in tasks:
        for item in task.items():
            wanted.setdefault(item.clip, set()).add((item.clip, item.sound))
            if task.name == WORDS:
                framed.add((item.clip, item.sound))
    compared = [i for i, clip in enumerate(clips) if clip.split == "test"][: settings.cka_clips]
    for i in compared:
        wanted.setdefault(i, set()).add((i, "clean"))
    windows: list[list[Floats]] = [[] for _ in model.names]
    hops = [0] * len(model.names)
    for done, i in enumerate(sorted(wanted)):
        samples = read_sound(clips[i].path)
        for key in sorted(wanted[i]):
            layers = model.layers(shifted(samples, key[1], (settings.seed, i), settings.snr_db))
            store.add(key, layers, key in framed)
            if key[1] == "clean":
                hops = [hop_of(len(frames), len(samples)) for frames in layers]
                if i in compared:
                    for own, frames, hop in zip(windows, layers, hops, strict=True):
                        own.append(_windowed(frames, hop, len(samples)))
        progress((done + 1) / len(wanted))
    return [np.concatenate(own) for own in windows], hops


def _windowed(frames: Floats, hop: int, n_samples: int) -> Floats:
    """Means over windows of 0.16 s of a clip's frames (n, width): as many for every layer of every model."""
    each = CKA_WINDOW // hop or 1
    last = len(frames) - each  # the frames may end a little before the sound does
    starts = [max(0, min(k * CKA_WINDOW // hop, last)) for k in range(max(1, n_samples // CKA_WINDOW))]
    return np.stack([frames[start : start + each].mean(0) for start in starts])


def _likeness(windows: Mapping[str, Sequence[Floats]], report: Report) -> tuple[Likeness, ...]:
    """The first model against itself and every other; nothing where the clips are too few and short to compare."""
    first = next(iter(windows))
    found: list[Likeness] = []
    if len(windows[first][0]) < FEWEST_WINDOWS:
        return ()
    for k, (name, layers) in enumerate(windows.items()):
        values = tuple(tuple(linear_cka(a, b) for b in layers) for a in windows[first])
        found.append(Likeness(first, name, values))
        report("likeness", (k + 1) / len(windows))
    return tuple(found)

"""The accent classifier of arXiv 2510.09528 (METHOD §2): a small CNN on Whisper's log-mel.

Clip length, speaker and channel give accents away, so training looks at crops of one length, classes weigh the
same, and `asr_experiments.controls` says what can be told without listening to speech.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_experiments.features import Floats, Mels, Progress, Shape
from asr_experiments.masking import SWITCHBOARD_MILD, SpecAugment, specaugment_mask
from catalog.errors import PdidError, UsageError
from catalog.memory import keep_freed_memory

CHANNELS = (32, 64, 128, 256)
STRIDE = 8  # pixels, in time and frequency, of one cell of the fourth convolution's output
PREDICT_BATCH = 32
PATIENCE = 10
"""Epochs without a better macro-F1 on the dev clips after which training ends."""
FORMAT = 1

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """How a classifier is made. `paper()` sees the whole padded window."""

    crop_frames: int | None = 288  # 2.88 s, a little under the shortest clip; a multiple of 16; None: the whole window
    epochs: int = 30
    batch: int = 32
    learning_rate: float = 5e-4
    dropout: float = 0.3
    channels: tuple[int, ...] = CHANNELS
    specaugment: SpecAugment | None = SWITCHBOARD_MILD
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crop_frames is not None and (self.crop_frames < 16 or self.crop_frames % 16):
            raise UsageError(f"crop_frames: expected a multiple of 16, got {self.crop_frames}")
        if self.epochs < 1 or self.batch < 1:
            raise UsageError(f"epochs and batch: expected at least 1, got {self.epochs} and {self.batch}")

    @staticmethod
    def paper() -> ClassifierSettings:
        return ClassifierSettings(crop_frames=None)


DEFAULT = ClassifierSettings()


class AccentCnn(nn.Module):
    """Convolutions 3 × 3, each with ReLU and max-pool 2 × 2; flatten; 128 units with ReLU; the accents' scores."""

    def __init__(
        self, n_mels: int, n_frames: int, n_classes: int, dropout: float = 0.3, channels: Sequence[int] = CHANNELS
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in zip((1, *channels), channels, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        flat = channels[-1] * (n_mels >> len(channels)) * (n_frames >> len(channels))
        if flat == 0:
            raise UsageError(f"expected features of 16 × 16 or more, got {n_mels} × {n_frames}")
        self.hidden = nn.Linear(flat, 128)
        self.out = nn.Linear(128, n_classes)
        for layer in (*self.convs, self.hidden):  # He et al. 2015; with torch's own, training may not start
            nn.init.kaiming_normal_(cast(Tensor, layer.weight), nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
        with torch.no_grad():
            # Grad-CAM averages gradients over all places; where no cue ever lay they are this layer's first noise
            self.hidden.weight.mul_(0.1)
        cast(Any, self).to(memory_format=torch.channels_last)  # a third faster on a CPU

    def maps(self, x: Tensor, layer: int) -> Tensor:
        """The ReLU output of convolution `layer` (1 is the first) for log-mels (batch, n_mels, n_frames).

        Of the fourth, at full length: (batch, 256, 10, 375).
        """
        x = x[:, None]
        for i in range(layer):
            x = torch.relu(self.convs[i](self.pool(x) if i else x))
        return x

    def scores(self, maps: Tensor, layer: int) -> Tensor:
        """From the maps of convolution `layer` on: scores before the softmax, (batch, n_classes)."""
        x = maps
        for conv in self.convs[layer:]:
            x = torch.relu(conv(self.pool(x)))
        x = self.dropout(self.pool(x)).flatten(1)
        result: Tensor = self.out(self.dropout(torch.relu(self.hidden(x))))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Scores (batch, n_classes) of log-mels (batch, n_mels, n_frames)."""
        return self.scores(self.maps(x, len(self.convs)), len(self.convs))


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained network and what it was trained for."""

    net: AccentCnn
    accents: tuple[str, ...]
    settings: ClassifierSettings
    shape: Shape

    @property
    def window(self) -> int:
        """Frames the network sees at a time."""
        return self.settings.crop_frames or self.shape.n_frames

    @property
    def device(self) -> torch.device:
        return self.net.out.weight.device


@dataclass(frozen=True, slots=True)
class Scores:
    """How well classes were told apart; `confusion[i][j]` counts clips of class i taken for class j."""

    accuracy: float
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have clips: chance is one over the number of classes."""
        return float(np.mean([row[i] / sum(row) for i, row in enumerate(self.confusion) if sum(row)]))


def score(truth: Sequence[int] | Ints, said: Sequence[int] | Ints, n_classes: int) -> Scores:
    """Accuracy, macro-averaged F1 and the confusion matrix of predicted classes.

    A class that neither occurs nor is predicted is left out of the mean F1.
    """
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (np.asarray(truth, int), np.asarray(said, int)), 1)
    hits, either = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
    f1 = 2 * hits[either > 0] / either[either > 0]
    table = tuple(tuple(map(int, row)) for row in confusion)
    return Scores(float(hits.sum() / max(1, confusion.sum())), float(f1.mean()) if len(f1) else 0.0, table)


def crop(features: Floats, n_valid: int, size: int, start: int) -> Floats:
    """Frames [start, start + size) of a log-mel (n_mels, n_frames); a clip too short for it is repeated, not padded,
    for padding tells how long it is."""
    if n_valid >= size:
        return features[:, start : start + size]
    return features[:, np.arange(start, start + size) % max(1, n_valid)]


def window_starts(n_valid: int, size: int) -> list[int]:
    """Where windows of `size` frames begin that cover a clip's valid frames: side by side, the last one moved back
    to fit. All are multiples of 8 frames, so that up to 7 frames at the end may stay uncovered."""
    last = max(0, n_valid - size) // STRIDE * STRIDE
    return [*range(0, last, size), last]


def windows(mels: Mels, index: int, size: int) -> tuple[Floats, list[int]]:
    """A clip's windows (n, n_mels, size) and where they begin; one with everything where `size` is the model's."""
    features, n_valid = mels[index]
    if size == mels.shape.n_frames:
        return features[None], [0]
    starts = window_starts(n_valid, size)
    return np.stack([crop(features, n_valid, size, start) for start in starts]), starts


def shared_groups(train: Sequence[str | None], test: Sequence[str | None]) -> list[str]:
    """Speakers (or sources) on both sides of a split, sorted: expected to be none. None counts as unknown."""
    return sorted({group for group in train if group} & {group for group in test if group})


def train_classifier(
    mels: Mels,
    labels: Sequence[str],
    train: Sequence[int],
    dev: Sequence[int] = (),
    settings: ClassifierSettings = DEFAULT,
    device: str = "cpu",
    progress: Progress = lambda share: None,
) -> Classifier:
    """Train on the clips `train` of `mels`; `labels` are all clips' accents.

    Cross-entropy with balanced class weights, Adam, SpecAugment; every epoch sees one random crop of every clip.
    With `dev` clips the weights of the epoch with their best macro-F1 are kept and training ends when that stops
    growing (`PATIENCE`), else the last. On one processor type and thread count the same seed gives the same weights;
    the caller's random state is left as it was.

    Raises UsageError with fewer than two accents to tell apart, PdidError if the loss stops being a number.
    """
    keep_freed_memory()
    accents = tuple(sorted({labels[i] for i in train}))
    if len(accents) < 2:
        raise UsageError(f"the classifier needs two accents or more to train on, got {', '.join(accents) or 'none'}")
    if settings.crop_frames and settings.crop_frames > mels.shape.n_frames:
        raise UsageError(
            f"crop_frames: expected at most the model's {mels.shape.n_frames} frames, got {settings.crop_frames}"
        )
    number = {accent: i for i, accent in enumerate(accents)}
    dev = [i for i in dev if labels[i] in number]
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = AccentCnn(
            mels.shape.n_mels,
            settings.crop_frames or mels.shape.n_frames,
            len(accents),
            settings.dropout,
            settings.channels,
        ).to(device)
        made = Classifier(net, accents, settings, mels.shape)
        truth = np.array([number[labels[i]] for i in train])
        weights = len(truth) / (len(accents) * np.bincount(truth, minlength=len(accents)))
        loss_of = nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32, device=device))
        adam = torch.optim.Adam(net.parameters(), settings.learning_rate)
        best, best_epoch, kept = -math.inf, 0, net.state_dict()
        for epoch in range(settings.epochs):
            net.train()
            for x, y in _batches(mels, train, truth, made.window, epoch, settings):
                loss = loss_of(net(torch.from_numpy(x).to(device)), torch.from_numpy(y).to(device))
                if not torch.isfinite(loss):
                    raise PdidError(f"the classifier's loss is {loss.item()} in epoch {epoch + 1}: lower learning_rate")
                adam.zero_grad()
                loss.backward()
                adam.step()
            if dev:
                f1 = score([number[labels[i]] for i in dev], predict(made, mels, dev).argmax(1), len(accents)).macro_f1
                if f1 > best:
                    best, best_epoch = f1, epoch
                    kept = {name: value.clone() for name, value in net.state_dict().items()}
                if best == 1.0 or epoch - best_epoch >= PATIENCE:  # after a perfect one no other could take its place
                    break
            progress((epoch + 1) / settings.epochs)
        progress(1.0)
        if dev:
            net.load_state_dict(kept)
    net.eval()
    return made


def _batches(
    mels: Mels, train: Sequence[int], truth: Ints, window: int, epoch: int, settings: ClassifierSettings
) -> Iterator[tuple[Floats, Ints]]:
    """An epoch's batches in random order: log-mels (batch, n_mels, window) with SpecAugment, and classes (batch,)."""
    rng = np.random.default_rng([settings.seed, epoch])
    order = rng.permutation(len(train))
    for at in range(0, len(order), settings.batch):
        rows = []
        for i in order[at : at + settings.batch]:
            features, n_valid = mels[train[i]]
            whole = window == mels.shape.n_frames
            start = 0 if whole else int(rng.integers(max(1, n_valid - window + 1)))
            row = features if whole else crop(features, n_valid, window, start)
            if settings.specaugment:
                hidden = np.zeros(row.shape, bool)
                seen = min(n_valid, window) if whole else window
                hidden[:, :seen] = specaugment_mask((len(row), seen), rng, settings.specaugment)
                row = np.where(hidden, np.float32(0), row)
            rows.append(row)
        yield np.stack(rows), truth[order[at : at + settings.batch]]


@torch.no_grad()
def predict(made: Classifier, mels: Mels, clips: Sequence[int]) -> Floats:
    """Probabilities (len(clips), n_classes): the softmax of a clip's mean scores over its windows."""
    made.net.eval()
    scores = np.zeros((len(clips), len(made.accents)), np.float32)
    waiting: list[Floats] = []
    owners: list[int] = []
    counts = np.zeros(len(clips))

    def flush() -> None:
        if owners:
            x = torch.from_numpy(np.concatenate(waiting)).to(made.device)
            found = torch.cat([made.net(part) for part in torch.split(x, PREDICT_BATCH)])
            np.add.at(scores, owners, found.cpu().numpy())
        waiting.clear()
        owners.clear()

    for row, clip in enumerate(clips):
        x, starts = windows(mels, clip, made.window)
        waiting.append(x)
        owners += [row] * len(starts)
        counts[row] = len(starts)
        if len(owners) >= PREDICT_BATCH:
            flush()
    flush()
    mean = torch.from_numpy(scores / counts[:, None].astype(np.float32))
    return cast(Floats, mean.softmax(1).numpy())


def evaluate(made: Classifier, mels: Mels, labels: Sequence[str], clips: Sequence[int]) -> Scores:
    """Score the classifier on clips; those of accents it was never shown are left out.

    Raises UsageError if none is left.
    """
    known = [i for i in clips if labels[i] in made.accents]
    if not known:
        raise UsageError(f"no clip to test the classifier on: it knows {', '.join(made.accents)}")
    truth = [made.accents.index(labels[i]) for i in known]
    return score(truth, predict(made, mels, known).argmax(1), len(made.accents))


def save_classifier(made: Classifier, folder: Path) -> None:
    """Write `classifier.safetensors` and `classifier.json` into a folder; the latter comes last."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "format": FORMAT,
        "accents": made.accents,
        "settings": asdict(made.settings),
        "shape": asdict(made.shape),
    }
    state = {name: value.cpu().contiguous() for name, value in made.net.state_dict().items()}
    for name, content in (
        ("classifier.safetensors", save(state)),
        ("classifier.json", json.dumps(told, ensure_ascii=False, indent=1).encode()),
    ):
        beside = folder / f".{name}.part"
        beside.write_bytes(content)
        os.replace(beside, folder / name)


def load_classifier(folder: Path, device: str = "cpu") -> Classifier:
    """Read what `save_classifier` wrote. Raises PdidError if the folder holds none, or a damaged one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        told = json.loads((folder / "classifier.json").read_text("utf-8"))
        if told["format"] != FORMAT:
            raise PdidError(f"classifier {folder}: expected format {FORMAT}, got {told['format']}; train it again")
        given = told["settings"]
        policy = given["specaugment"]
        settings = replace(
            ClassifierSettings(**{k: v for k, v in given.items() if k not in ("specaugment", "channels")}),
            specaugment=SpecAugment(**policy) if policy else None,
            channels=tuple(given["channels"]),
        )
        shape, accents = Shape(**told["shape"]), tuple(told["accents"])
        window = settings.crop_frames or shape.n_frames
        net = AccentCnn(shape.n_mels, window, len(accents), settings.dropout, settings.channels)
        net.load_state_dict(load_file(folder / "classifier.safetensors"))
    except FileNotFoundError:
        raise PdidError(f"no classifier in {folder}: expected classifier.json and classifier.safetensors") from None
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise PdidError(f"classifier {folder}: damaged ({error}); train it again") from None
    return Classifier(net.to(device).eval(), accents, settings, shape)

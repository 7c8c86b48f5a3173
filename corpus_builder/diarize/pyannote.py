"""The pyannote engine: pyannote.audio's speaker diarization (Bredin 2023; Plaquet & Bredin 2023) made affordable.

The pipeline, its networks and its clustering are pyannote's own; what changes is how much of it is computed:
  * a window step of half a window instead of a tenth, with the clustering fitted to the fewer windows;
  * only windows near speech are looked at;
  * the embedding network, which costs nearly everything, runs once per window instead of once per window and
    speaker: only its pooling differs between the speakers of a window;
  * batch normalisation is folded into the convolutions before it, which changes nothing but rounding;
  * long sources are cut in pauses, and the speakers of the parts are linked by their embeddings.
"""

from __future__ import annotations

import math
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from enum import Enum
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import PdidError
from catalog.hub import Found
from catalog.records import RATE, Span
from corpus_builder.audio import Samples, Track
from corpus_builder.config import Diarize
from corpus_builder.diarize.parts import NEAR, Voice, assemble, link, unit, windows
from corpus_builder.gpu import Batches
from corpus_builder.models import PART_FILES, obtain_pyannote, pyannote_config, pyannote_parts, safe_unpickling
from corpus_builder.protocols import Diarization, Each, Progress, labelled

SEGMENTATION_BATCH = 32
SAME_SPEAKER = 0.5
"""Cosine similarity of two mean voices of different parts from which they are one person's: WeSpeaker's verification
threshold lies near 0.6–0.7 for single utterances, and means over many windows are closer than those."""
EMBEDDING_SAMPLES = 400  # the shortest voice WeSpeaker's network takes: one 25 ms frame of its filter bank


class Pyannote:
    """pyannote.audio's pipeline as a `Diarizer`."""

    def __init__(self, settings: Diarize, found: Found | None = None, each: Each = map) -> None:
        """Load the pipeline that `settings.model` names (or the one already `found`), to the GPU if there is one.

        Raises PdidError where it can't be had or read.
        """
        found = found or obtain_pyannote(settings.model)
        self.settings, self.each = settings, each
        self.name = f"pyannote.audio {version('pyannote.audio')} {found.version}"
        self.pipeline = load_pipeline(found, settings.step)
        self.pipeline.get_segmentations = self._segmentations
        if has_wespeaker(self.pipeline):
            self.maps_of = batches_of_maps(self.pipeline)
            self.pipeline.get_embeddings = self._embeddings

    def __call__(self, track: Track, speech: Sequence[Span], music: Sequence[Span], progress: Progress) -> Diarization:
        """Who speaks when within `speech` (sorted spans at 16 kHz). Pure music is expected to be left out of it."""
        parts = windows(speech, len(track), round(self.settings.window_s * RATE))
        turns: list[tuple[Span, int]] = []  # with the index of the speaker in `voices`
        overlaps: list[Span] = []
        voices: list[Voice | None] = []
        part_of: list[int] = []
        for index, part in enumerate(parts):

            def share(done: float, index: int = index) -> None:
                progress((index + done) / len(parts))

            found, both, heard = self._diarize(track, part, speech, share)
            turns += [(span, speaker + len(voices)) for span, speaker in found]
            overlaps += both
            voices += heard
            part_of += [index] * len(heard)
        progress(1.0)
        labels = link(voices, part_of, SAME_SPEAKER)
        return assemble(
            [(span, labels[speaker]) for span, speaker in turns],
            overlaps,
            [(label, voice) for label, voice in zip(labels, voices, strict=True)],
            round(self.settings.min_speaker_s * RATE),
        )

    def _diarize(
        self, track: Track, part: Span, speech: Sequence[Span], progress: Progress
    ) -> tuple[list[tuple[Span, int]], list[Span], list[Voice | None]]:
        """One part: exclusive turns with speaker numbers, overlaps, and every speaker's mean voice if it has one."""
        import torch

        near = np.zeros(len(part), bool)
        for span in speech:
            if span.end > part.start and span.start < part.end:
                near[max(0, span.start - NEAR - part.start) : max(0, span.end + NEAR - part.start)] = True
        sound = torch.from_numpy(track.read(part.start, part.end))[None]
        file = {"waveform": sound, "sample_rate": RATE, "uri": "part", "near": near, "progress": progress}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # silence and lone speakers make numpy average nothing
            output = self.pipeline(file)

        def place(segment: Any) -> Span:
            start, end = (part.start + round(at * RATE) for at in (segment.start, segment.end))
            return Span(min(max(start, part.start), part.end), min(max(end, part.start), part.end))

        names = output.speaker_diarization.labels()
        turns = [
            (place(segment), names.index(name))
            for segment, _, name in output.exclusive_speaker_diarization.itertracks(yield_label=True)
        ]
        overlaps = [place(segment) for segment in output.speaker_diarization.get_overlap()]
        return turns, overlaps, [unit(row) for row in output.speaker_embeddings[: len(names)]]

    def _segmentations(self, file: dict[str, Any], hook: Any = None) -> Any:
        """Every window's speaker activity, shape (windows, frames, 3), zero away from speech and there uncomputed.

        In place of pyannote's `get_segmentations`.
        """
        from pyannote.core import SlidingWindow, SlidingWindowFeature

        inference = self.pipeline._segmentation
        size, step = round(inference.duration * RATE), round(inference.step * RATE)
        sound, near = file["waveform"][0], file["near"]
        starts = range(0, max(1, 1 + math.ceil((len(sound) - size) / step)) * step, step)
        wanted = [index for index, at in enumerate(starts) if near[at : at + size].any()]
        frames = inference.model.num_frames(size)
        activity = np.zeros((len(starts), frames, len(inference.model.specifications.classes)), np.float32)
        middles = np.round((np.arange(frames) + 0.5) * size / frames).astype(int)
        groups = (wanted[first : first + inference.batch_size] for first in range(0, len(wanted), inference.batch_size))
        batches = ((group, _windows(sound, [starts[index] for index in group], size)) for group in groups)
        done = 0
        for group, answers in labelled(self.each, self.activity, batches):
            for index, found in zip(group, answers, strict=True):
                at = np.minimum(starts[index] + middles, len(sound) - 1)
                activity[index] = found * near[at][:, None]
            done += len(group)
            file["progress"](0.2 * done / len(wanted))
        window = SlidingWindow(start=0.0, duration=inference.duration, step=inference.step)
        return SlidingWindowFeature(activity, window)

    def activity(self, windows: Samples) -> Any:
        """Speaker activity (n, frames, 3) of windows (n, size); what `each` is given."""
        import torch

        return self.pipeline._segmentation.infer(torch.tensor(windows)[:, None])

    def _embeddings(
        self, file: dict[str, Any], segmentations: Any, exclude_overlap: bool = False, hook: Any = None
    ) -> NDArray[np.float32]:
        """The voice of every speaker in every window, shape (windows, 3, dimension): pyannote's `get_embeddings`.

        Where nobody speaks in a window the row is a constant, which the pipeline never looks at.
        """
        inference, dimension = self.pipeline._segmentation, self.pipeline._embedding.model_.dimension
        size, step = round(inference.duration * RATE), round(inference.step * RATE)
        sound = file["waveform"][0]
        activity = np.nan_to_num(segmentations.data).astype(np.float32)
        masks = activity
        if exclude_overlap:
            alone = activity * (activity.sum(2, keepdims=True) < 2)
            enough = alone.sum(1, keepdims=True) > math.ceil(activity.shape[1] * EMBEDDING_SAMPLES / size)
            masks = np.where(enough, alone, activity)
        result = np.ones((*activity.shape[::2], dimension), np.float32)
        wanted = np.flatnonzero(activity.any((1, 2)))
        done = 0

        def batches() -> Iterator[tuple[NDArray[np.int64], tuple[Samples, NDArray[np.float32]]]]:
            at_once = self.maps_of.at_once
            for first in range(0, len(wanted), at_once):
                group = wanted[first : first + at_once]
                yield group, (_windows(sound, [index * step for index in group], size), masks[group])

        for group, found in labelled(self.each, self.heard, batches()):
            silent = ~activity[group].any(1)
            result[group] = np.where(silent[:, :, None], np.float32(1), found)
            done += len(group)
            file["progress"](0.2 + 0.8 * done / len(wanted))
        return result

    def heard(self, batch: tuple[Samples, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Voices (n, 3, dimension) in windows (n, size) by who speaks when, (n, frames, 3); what `each` is given."""
        import torch

        model, device = self.pipeline._embedding.model_, self.pipeline._embedding.device
        windows, masks = batch
        with torch.inference_mode():
            maps = self.maps_of(model.compute_fbank(torch.tensor(windows)[:, None].to(device)))
            weights = torch.tensor(masks.transpose(0, 2, 1)).to(device)
            found: NDArray[np.float32] = model.resnet.forward_embedding(maps, weights=weights)[1].cpu().numpy()
        return found


# ---------------------------------------------------------------- the pipeline


def load_pipeline(found: Found, step: float) -> Any:
    """pyannote's SpeakerDiarization with a window step of `step` windows, telemetry off, nothing from the network.

    Raises PdidError where the files can't be read or hold more than weights.
    """
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"  # before the import: it reports home by default
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchcodec's absence: sound is handed over as arrays
        from pyannote.audio import Pipeline
        from pyannote.audio.core.task import Problem, Resolution, Specifications

        config = pyannote_config(found.folder)
        params = config["pipeline"]["params"]
        usual_step = float(params.get("segmentation_step", 0.1))
        # as dictionaries: a path with "wespeaker" in it would be taken for an ONNX file
        params |= {part: {"checkpoint": str(folder)} for part, folder in pyannote_parts(found.folder).items()}
        params |= {"segmentation_step": step, "segmentation_batch_size": SEGMENTATION_BATCH}
        try:
            # Python 3.11.0 to 3.11.3 pickled an enumeration's member as a getattr; ours gives members and no more
            members = [(enum_member, f"{module}.getattr") for module in ("builtins", "__builtin__")]
            allowed = [Specifications, Problem, Resolution, torch.torch_version.TorchVersion, *members]
            with safe_unpickling(str(found.folder), allowed):
                pipeline = Pipeline.from_pretrained(config)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, ImportError, OSError, EOFError) as error:
            raise PdidError(
                f"the pyannote pipeline in {found.folder} can't be loaded ({str(error).splitlines()[0]}); expected "
                f"config.yaml and {', '.join(PART_FILES)} for pyannote.audio 4: fetch it again"
            ) from error
    if pipeline is None:  # pyannote's answer to a gated part
        raise PdidError(f"the pyannote pipeline in {found.folder} names a part that is gated; copy it into the folder")
    tuned: dict[str, Any] = config.get("params") or pipeline.default_parameters()  # type: ignore[no-untyped-call]
    pipeline.instantiate(fit_clustering(tuned, step / usual_step))
    pipeline.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if has_wespeaker(pipeline):
        fold_batch_norm(pipeline._embedding.model_.resnet)
    return pipeline


def has_wespeaker(pipeline: Any) -> bool:
    """Whether the pipeline's voices are of WeSpeaker's residual network, as the published ones' are."""
    from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet

    return isinstance(pipeline._embedding.model_, BaseWeSpeakerResNet)


def enum_member(kind: object, name: str) -> Enum:
    """The member of an enumeration by name: the only `getattr` that a weights file may ask for.

    Raises pickle.UnpicklingError for anything else.
    """
    if isinstance(kind, type) and issubclass(kind, Enum) and name in kind.__members__:
        return kind[name]
    raise pickle.UnpicklingError(f"builtins.getattr of {kind!r}")


def fit_clustering(params: dict[str, Any], ratio: float) -> dict[str, Any]:
    """The pipeline's parameters for windows `ratio` times as far apart as those they were tuned on.

    A cluster's least size counts windows, so it shrinks as they do. In VBx (Landini et al. 2022,
    arXiv 2012.14952) Fa discounts the evidence of a window because its neighbours repeat it: fewer, less alike
    windows count more, within pyannote's bounds.
    """
    clustering = dict(params.get("clustering", {}))
    if "min_cluster_size" in clustering:
        clustering["min_cluster_size"] = max(1, round(clustering["min_cluster_size"] / ratio))
    if "Fa" in clustering:
        clustering["Fa"] = min(0.5, clustering["Fa"] * ratio)
    return {**params, "clustering": clustering}


def fold_batch_norm(resnet: Any) -> None:
    """Fold every batch normalisation of pyannote's ResNet into the convolution before it, in place."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    def fold(owner: Any, conv: str, norm: str) -> None:
        setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
        setattr(owner, norm, torch.nn.Identity())

    fold(resnet, "conv1", "bn1")
    for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        for block in layer:
            for number in range(1, 4):
                if hasattr(block, f"conv{number}"):
                    fold(block, f"conv{number}", f"bn{number}")
            if len(block.shortcut) == 2:
                fold(block.shortcut, "0", "1")
    resnet.to(memory_format=torch.channels_last)


def batches_of_maps(pipeline: Any) -> Batches:
    """pyannote's ResNet up to its pooling, by batches: from filter banks (n, frames, 80) to feature maps."""
    import torch

    model = pipeline._embedding.model_
    size = round(pipeline._segmentation.duration * RATE)
    noise = 0.1 * torch.randn((1, 1, size), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return Batches(model.resnet.forward_frames, model.compute_fbank(noise.to(pipeline._embedding.device)))


def _windows(sound: Any, starts: Sequence[int], size: int) -> Samples:
    """Samples [start, start + size) of a tensor for every start, (n, size), zeros after its end."""
    import torch

    pieces = [sound[start : start + size] for start in starts]
    windows = torch.stack([torch.nn.functional.pad(piece, (0, size - len(piece))) for piece in pieces])
    result: Samples = windows.numpy()
    return result

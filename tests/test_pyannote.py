"""The pyannote engine with networks of full size and random weights: loading, arithmetic, linking, never quality."""

from __future__ import annotations

import os
import pickle
import shutil
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import PdidError
from catalog.records import RATE, Span
from corpus_builder.audio import Decoder, Track
from corpus_builder.config import Diarize
from corpus_builder.diarize import pyannote
from corpus_builder.diarize.parts import NEAR, assemble, link, windows
from corpus_builder.diarize.pyannote import Pyannote, enum_member, fit_clustering
from corpus_builder.models import find_pyannote


@pytest.fixture(scope="module")
def track(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Track:
    """The first two minutes of a programme."""
    programme = test_data / "programmes" / "magazine_a.m4a"
    sound = np.concatenate([block[:, 0] for block in Decoder(programme, RATE)])[: 120 * RATE]
    path = tmp_path_factory.mktemp("track") / "track.f32"
    path.write_bytes(sound.tobytes())
    return Track(path, len(sound))


def enliven(pipeline: Any, track: Track) -> None:
    """Random weights call everything the same: take the mean answer off, so that speakers come and go."""
    network = pipeline._segmentation.model
    with torch.inference_mode():
        answers = network(torch.from_numpy(track.read(0, 40 * RATE).reshape(4, 1, -1)))
    with torch.no_grad():
        network.classifier.bias -= answers.mean((0, 1))


@pytest.fixture(scope="module")
def engine(models_dir: Path, track: Track) -> Pyannote:
    engine = Pyannote(Diarize(model=str(models_dir / "diarization"), window_s=60))
    enliven(engine.pipeline, track)
    return engine


SPEECH = [Span(RATE, 21 * RATE), Span(23 * RATE, 55 * RATE), Span(59 * RATE, 80 * RATE), Span(100 * RATE, 118 * RATE)]


def test_a_source_of_several_windows_is_diarized_end_to_end(engine: Pyannote, track: Track) -> None:
    told: list[float] = []
    found = engine(track, SPEECH, [], told.append)
    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"
    assert engine.name.startswith("pyannote.audio 4.")
    assert told == sorted(told)
    assert told[-1] == 1.0
    every = [(turn.start, turn.end) for turn in found.turns] + [(span.start, span.end) for span in found.unsure]
    assert every, "these networks call all speech speech"
    assert len(every) > 10
    assert found.voices
    assert all(a.end <= b.start for a, b in pairwise(found.turns))
    near = np.zeros(len(track), bool)
    for span in SPEECH:
        near[span.start - NEAR : span.end + NEAR] = True
    covered = np.zeros(len(track), bool)
    for start, end in every:
        covered[start:end] = True
    assert (covered & ~near).mean() < 0.005, "somebody speaks where the speech detector hears nobody"
    assert covered[: 60 * RATE].any()
    assert covered[100 * RATE :].any()
    assert engine(track, SPEECH, [], lambda share: None).turns == found.turns


def test_no_speech_no_turns(engine: Pyannote, track: Track) -> None:
    found = engine(track, [], [], lambda share: None)
    assert (found.turns, found.overlaps, found.unsure) == ((), (), ())


@pytest.fixture(scope="module")
def plain(models_dir: Path, track: Track) -> Any:
    """pyannote's own pipeline, untouched but for the step."""
    from pyannote.audio import Pipeline

    pipeline: Any = Pipeline.from_pretrained(models_dir / "diarization")
    pipeline._segmentation.step = 5.0
    enliven(pipeline, track)
    return pipeline


def file_of(track: Track, seconds: float) -> dict[str, Any]:
    sound = torch.from_numpy(track.read(0, round(seconds * RATE)))[None]
    near = np.ones(sound.shape[1], bool)
    return {"waveform": sound, "sample_rate": RATE, "uri": "x", "near": near, "progress": lambda share: None}


@pytest.mark.parametrize("seconds", [7.0, 15.0, 17.3])
def test_the_segmentation_is_pyannotes(engine: Pyannote, plain: Any, track: Track, seconds: float) -> None:
    file = file_of(track, seconds)
    ours, theirs = engine.pipeline.get_segmentations(file), plain.get_segmentations(file)
    assert ours.data.shape == theirs.data.shape
    for name in ("start", "duration", "step"):
        assert getattr(ours.sliding_window, name) == getattr(theirs.sliding_window, name)
    assert theirs.data.mean(1).std() > 0.01, "the windows are all alike: the comparison shows nothing"
    assert (ours.data == theirs.data).mean() > 0.995  # rounding turns a few even choices


def test_the_embeddings_are_pyannotes_at_a_third_of_the_work(engine: Pyannote, plain: Any, track: Track) -> None:
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    file = file_of(track, 19.0)
    rng = np.random.default_rng(0)
    activity = np.repeat(rng.random((3, 31, 3)) < 0.5, 19, axis=1).astype(np.float32)
    activity[1, :, 2] = 0  # nobody
    activity[2, :, 0] = 1
    activity[2, 5:, 1] = 1  # hardly ever alone
    windows_of = SlidingWindowFeature(activity, SlidingWindow(start=0.0, duration=10.0, step=5.0))
    assert plain._embedding.min_num_samples == pyannote.EMBEDDING_SAMPLES
    theirs = plain.get_embeddings(file, windows_of, exclude_overlap=True)
    ours = engine.pipeline.get_embeddings(file, windows_of, exclude_overlap=True)
    spoken = activity.any(1)
    assert np.ptp(theirs[spoken], axis=0).max() > 1e-3, "the rows are all alike: the comparison shows nothing"
    np.testing.assert_allclose(ours[spoken], theirs[spoken], atol=1e-5)


def test_the_clustering_is_fitted_to_the_step(engine: Pyannote) -> None:
    assert engine.pipeline.parameters(instantiated=True)["clustering"]["min_cluster_size"] == 2  # 12 at a tenth
    tuned = {"clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.7}, "segmentation": {}}
    assert fit_clustering(tuned, 1)["clustering"]["min_cluster_size"] == 12
    assert fit_clustering(tuned, 10)["clustering"]["min_cluster_size"] == 1
    assert fit_clustering(tuned, 5)["clustering"]["threshold"] == 0.7
    vbx = {"clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}}
    assert fit_clustering(vbx, 5)["clustering"] == pytest.approx({"threshold": 0.6, "Fa": 0.35, "Fb": 0.8})
    assert fit_clustering(vbx, 10)["clustering"]["Fa"] == 0.5
    assert vbx["clustering"]["Fa"] == 0.07


def test_vbx_as_the_published_pipeline_has_it_runs(models_dir: Path, track: Track, tmp_path: Path) -> None:
    folder = tmp_path / "wespeaker"  # a name pyannote would take for an ONNX file
    shutil.copytree(models_dir / "diarization", folder)
    config = (folder / "config.yaml").read_text().replace("AgglomerativeClustering", "VBxClustering")
    published = "{threshold: 0.6, Fa: 0.07, Fb: 0.8}"
    config = config.replace("{method: centroid, min_cluster_size: 12, threshold: 0.7}", published)
    (folder / "config.yaml").write_text(config)
    engine = Pyannote(Diarize(model=str(folder), min_speaker_s=0))
    assert engine.pipeline.parameters(instantiated=True)["clustering"]["Fa"] == pytest.approx(0.35)
    enliven(engine.pipeline, track)
    assert engine(track, [Span(0, 20 * RATE)], [], lambda share: None).turns


def test_long_sources_are_cut_in_their_longest_pauses() -> None:
    speech = [Span(at * RATE, (at + 9) * RATE) for at in range(0, 600, 10)]  # a second of quiet every ten
    speech[30] = Span(speech[30].start + 2 * RATE, speech[30].end)  # three seconds around 300 s
    parts = windows(speech, 600 * RATE, 300 * RATE)
    assert [part.start for part in parts] == [0, round(300.5 * RATE)]
    assert parts[-1].end == 599 * RATE + NEAR
    thirds = windows(speech, 600 * RATE, 200 * RATE)
    assert len(thirds) == 3
    assert all(a.end == b.start for a, b in pairwise(thirds))
    assert all(not span.start < part.start < span.end for part in thirds for span in speech), "cut inside speech"
    assert max(map(len, thirds)) < 240 * RATE
    solid = windows([Span(0, 600 * RATE)], 600 * RATE, 300 * RATE)
    assert [part.start for part in solid] == [0, 300 * RATE]


def voice_near(base: int, noise: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    vector = np.random.default_rng(base).standard_normal(256)
    vector = vector / np.linalg.norm(vector) + np.random.default_rng(noise).standard_normal(256) * 0.03
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_speakers_of_different_windows_are_linked_and_those_of_one_window_never() -> None:
    a, b = 1, 2
    voices = [voice_near(a, 11), voice_near(b, 12), voice_near(b, 13), voice_near(a, 14), None, voice_near(a, 15)]
    labels = link(voices, [0, 0, 1, 1, 1, 2], 0.5)
    assert labels[0] == labels[3] == labels[5]
    assert labels[1] == labels[2]
    assert len(set(labels)) == 3
    twins = link([voice_near(a, 1), voice_near(a, 2), voice_near(a, 3)], [0, 0, 1], 0.5)
    assert twins[0] != twins[1]
    assert twins[2] in twins[:2]
    assert link([], [], 0.5) == []
    assert link([None, None, None], [0, 0, 1], 0.5) == [0, 1, 2]  # nobody was ever heard alone


def test_speakers_are_named_as_they_appear_and_passing_voices_are_not_speakers() -> None:
    turns = [(Span(500, 900), 7), (Span(0, 400), 3), (Span(950, 960), 5), (Span(970, 970), 3)]
    found = assemble(
        turns, [Span(350, 400), Span(5, 5)], [(7, voice_near(1, 1)), (3, None), (5, voice_near(2, 2))], 100
    )
    assert [(turn.start, turn.end, turn.speaker) for turn in found.turns] == [(0, 400, "S1"), (500, 900, "S2")]
    assert found.unsure == (Span(950, 960),)
    assert found.overlaps == (Span(350, 400),)
    assert found.voices is not None
    assert list(found.voices) == ["S2"]
    assert np.linalg.norm(found.voices["S2"]) == pytest.approx(1)


class Trap:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_weights_with_code_in_them_are_refused_and_damaged_ones_named(models_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "diarization"
    shutil.copytree(models_dir / "diarization", folder)
    torch.save({"state_dict": {}, "trap": Trap(tmp_path / "sprung")}, folder / "segmentation/pytorch_model.bin")
    with pytest.raises(PdidError, match=r"refused.*could run code"):
        Pyannote(Diarize(model=str(folder)))
    assert not (tmp_path / "sprung").exists()
    (folder / "segmentation/pytorch_model.bin").write_bytes(b"not weights")
    with pytest.raises(PdidError, match=str(folder)):
        Pyannote(Diarize(model=str(folder)))
    (folder / "config.yaml").write_text("pipeline: {name: pyannote.audio.pipelines.VoiceActivityDetection}")
    with pytest.raises(PdidError, match="expected pyannote's SpeakerDiarization"):
        find_pyannote(str(folder))


class Colour(Enum):
    """An enumeration, as the published files hold them."""

    RED = 1


def test_a_file_may_name_the_members_of_an_enumeration_and_nothing_else() -> None:
    # as Python 3.11.0 to 3.11.3 pickled them
    assert enum_member(Colour, "RED") is Colour.RED
    for kind, name in ((Colour, "__class__"), (Colour, "mro"), (os, "system"), ("text", "format")):
        with pytest.raises(pickle.UnpicklingError):
            enum_member(kind, name)

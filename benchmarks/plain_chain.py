"""The plain chain: what one strings together without pdid, as a yardstick for its speed.

    PDID_MODELS=FOLDER python benchmarks/plain_chain.py [--emilia] MEDIA...

Per file: decode it all; Demucs over everything (`apply_model`'s defaults); silero's `get_speech_timestamps` on the
voice; pyannote's pipeline with the settings of its published configuration (window step a tenth, batches of 32).
Demucs and pyannote run on the GPU where there is one.
With --emilia in the order of Emilia-Pipe (arXiv 2407.05361): standardise (one level for all: -20 dBFS), separate all,
diarize all, and only then look for speech, in each turn by itself.
Weights come from $PDID_MODELS (random ones cost the same time). Prints one JSON object: seconds per
stage, media seconds, and the wall time of everything, imports and model loading included.
"""

from __future__ import annotations

import time

BEGIN = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from collections import defaultdict  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
warnings.simplefilter("ignore")

import av  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchaudio  # noqa: E402
from demucs.apply import apply_model  # noqa: E402
from demucs.pretrained import get_model  # noqa: E402
from pyannote.audio import Pipeline  # noqa: E402
from silero_vad import get_speech_timestamps, load_silero_vad  # noqa: E402

RATE = 44_100

seconds: dict[str, float] = defaultdict(float)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the time inside to a stage's seconds."""
    begin = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - begin


def decode(path: str) -> torch.Tensor:
    """A whole file as float32 of shape (2, n) at 44.1 kHz."""
    with av.open(path) as container:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return torch.from_numpy(np.concatenate([frame.to_ndarray() for frame in frames], axis=1))


def main(paths: list[str], emilia: bool) -> None:
    """Run the chain over the files and print its figures."""
    models = Path(os.environ["PDID_MODELS"])
    torch.set_num_threads(os.cpu_count() or 1)  # importing silero_vad has set it to one, which would flatter pdid
    with stage("load"):
        demucs = get_model("htdemucs", repo=models / "demucs")
        silero = load_silero_vad()
        pyannote = Pipeline.from_pretrained(models / "diarization")
        assert pyannote is not None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        pyannote.to(device)
    seconds["load"] += time.perf_counter() - BEGIN - seconds["load"]  # the imports too
    media_s, found = 0.0, []
    for path in paths:
        with stage("decode"):
            mix = decode(path)
            if emilia:
                mix *= 0.1 / mix.square().mean().sqrt()
        media_s += mix.shape[1] / RATE
        with stage("separate"), torch.no_grad():
            voice = apply_model(demucs, mix[None], device=device)[0, demucs.sources.index("vocals")].cpu()
            voice = torchaudio.functional.resample(voice.mean(0), RATE, 16_000)
        speech: list[Any] = []
        if not emilia:
            with stage("vad"):
                speech = get_speech_timestamps(voice, silero, sampling_rate=16_000)
        with stage("diarize"):
            output: Any = pyannote({"waveform": voice[None], "sample_rate": 16_000})
        turns = output.exclusive_speaker_diarization
        if emilia:
            with stage("vad"):
                for turn in turns.itersegments():
                    inside = voice[round(turn.start * 16_000) : round(turn.end * 16_000)]
                    speech += get_speech_timestamps(inside, silero, sampling_rate=16_000)
        found.append({"path": path, "speech": len(speech), "turns": len(turns)})
    wall = time.perf_counter() - BEGIN
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    print(json.dumps({"wall_s": round(wall, 2), "media_s": round(media_s, 2), "stages_s": rounded, "files": found}))


if __name__ == "__main__":
    media = [word for word in sys.argv[1:] if word != "--emilia"]
    if not media or "PDID_MODELS" not in os.environ:
        sys.exit(__doc__)
    main(media, "--emilia" in sys.argv)

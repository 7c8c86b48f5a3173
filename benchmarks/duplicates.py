"""Near-duplicates: what is found of re-encoded and shifted clips, and what is wrongly found.

    python benchmarks/duplicates.py CLIPS_FOLDER

CLIPS_FOLDER is searched for speech and music; spoken digits (`fsdd`) are passed over. Every recording is cut into clips
of 3 to 12 s. Prints one table; how time and memory grow with the clips is for `benchmarks.duplicates_growth` to tell.
"""

from __future__ import annotations

import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from catalog.records import RATE
from corpus_builder.audio import Decoder, Samples, write_clip
from corpus_builder.ffmpeg import ffmpeg_path
from corpus_builder.fingerprint import Hashes, fingerprint
from corpus_builder.matches import find_matches, joined

AGAIN: dict[str, tuple[str, ...]] = {
    "mp3, 32 kbit/s": (".mp3", "-b:a", "32k"),
    "aac, 24 kbit/s, 22 kHz": (".m4a", "-ar", "22050", "-b:a", "24k"),
    "opus, 16 kbit/s": (".opus", "-b:a", "16k"),
    "8 kHz": (".wav", "-ar", "8000"),
}
NOISE_DB = (20, 10)


def decoded(path: Path) -> Samples:
    """A file's sound, (n,) at 16 kHz."""
    return np.concatenate([block[:, 0] for block in Decoder(path, RATE)])


def cut(folder: Path) -> list[Samples]:
    """Clips of 3 to 12 s, at most four minutes of a recording."""
    dice = random.Random(0)
    clips = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a") and "fsdd" not in path.parts:
            sound, at = decoded(path)[: 240 * RATE], 0
            while len(sound) - at >= 3 * RATE:
                length = int(dice.uniform(3, 12) * RATE)
                if len(sound[at : at + length]) >= 3 * RATE:
                    clips.append(sound[at : at + length])
                at += length
    return clips


def again(sound: Samples, options: tuple[str, ...], folder: Path) -> Samples:
    """The sound encoded as the options say, and decoded."""
    ending, *how = options
    write_clip(folder / "a.wav", sound)
    command = [str(ffmpeg_path()), "-y", "-v", "error", "-i", str(folder / "a.wav"), *how, str(folder / f"b{ending}")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return decoded(folder / f"b{ending}")


def shifted(sound: Samples, dice: random.Random) -> Samples:
    """Quieter, and without up to a third of its beginning."""
    return (sound[dice.randrange(len(sound) // 3) :] * 0.4).astype(np.float32)


def score(name: str, prints: list[Hashes], others: list[Hashes]) -> None:
    found = list(find_matches(joined([*prints, *others]), Path(tempfile.gettempdir())))
    right = sum(match.b - len(prints) == match.a for match in found)
    precision = right / len(found) if found else 1.0
    print(f"| {name} | {right / len(prints):.3f} | {precision:.3f} | {len(found) - right} |", flush=True)


def main(folder: Path) -> None:
    clips = cut(folder)
    seconds = sum(map(len, clips)) / RATE
    print(f"{platform.processor() or platform.machine()}; {len(clips)} clips, {seconds:.0f} s\n")
    start = time.process_time()
    prints = [fingerprint(sound) for sound in clips]
    each = (time.process_time() - start) / len(clips) * 1000
    print("| the clips again, quieter, cut elsewhere | recall | precision | false pairs |\n|---|---|---|---|")
    dice, rng = random.Random(1), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        for name, options in AGAIN.items():
            score(name, prints, [fingerprint(again(shifted(s, dice), options, Path(scratch))) for s in clips])
    for db in NOISE_DB:
        noisy = []
        for clip in clips:
            sound = shifted(clip, dice)
            level = np.sqrt(np.mean(sound**2)) * 10 ** (-db / 20)
            noisy.append(fingerprint((sound + rng.normal(0, level, len(sound))).astype(np.float32)))
        score(f"white noise {db} dB below", prints, noisy)
    print(f"\nfingerprints: {each:.1f} s for 1,000 clips of {seconds / len(clips):.1f} s, one core")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

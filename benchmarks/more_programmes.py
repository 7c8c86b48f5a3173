"""Plans for thirteen more programmes, on which (besides the three) the settings were chosen: no held-out set.

    PDID_TEST_DATA=FOLDER python benchmarks/more_programmes.py OUT

Writes OUT/NAME.json, plans for the mixing tool that lies beside the test data (`tools/make_programme.py PLAN
OUT`); score what it mixes with `benchmarks/accuracy.py OUT/*.truth.json`.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

CLIPS = Path(os.environ.get("PDID_TEST_DATA", ".")).resolve() / "clips"
MUSIC = [str(CLIPS / "music" / f"{n}.opus") for n in ("happy_electronic_2", "calm_acoustic_1", "nostalgic_acoustic_1")]

Clip = tuple[str, str]  # file, speaker


def libri(reader: str) -> list[Clip]:
    return [(str(p), f"libri-{reader}") for p in sorted((CLIPS / "librispeech").glob(f"{reader}-*.flac"))]


def vctk(speaker: str) -> list[Clip]:
    return [(str(p), f"vctk-{speaker}") for p in sorted((CLIPS / "vctk").glob(f"{speaker}_*.flac"))]


def plan(
    seed: int,
    speakers: list[list[Clip]],
    n_turns: int,
    container: str,
    bed: float = 0.25,
    overlap: float = 0.15,
    gains_db: tuple[float, ...] = (),
    rate: int = 44_100,
    bit_rate: str = "",
) -> dict[str, Any]:
    """A programme of up to `n_turns` turns; `bed` and `overlap` are chances per turn."""
    rng = random.Random(seed)
    items: list[dict[str, Any]] = [{"kind": "music", "file": rng.choice(MUSIC), "seconds": 6, "gain_db": -6}]
    pools = [list(pool) for pool in speakers]
    last = -1
    for turn in range(n_turns):
        left = [i for i, pool in enumerate(pools) if pool and i != last] or [i for i, p in enumerate(pools) if p]
        if not left:
            break
        who = rng.choice(left) if turn >= len(pools) else turn
        file, speaker = pools[who].pop(0)
        last = who
        item: dict[str, Any] = {"kind": "speech", "file": file, "speaker": speaker, "accent": "x", "text": None}
        if gains_db:
            item["gain_db"] = gains_db[who % len(gains_db)]
        if rng.random() < bed:
            item |= {"bed": rng.choice(MUSIC), "bed_snr_db": rng.choice([3, 6, 8, 10])}
        if turn and rng.random() < overlap:
            item["overlap_s"] = rng.choice([0.5, 0.8, 1.0, 1.5])
        items.append(item)
        if rng.random() < 0.1:
            items.append({"kind": "silence", "seconds": rng.uniform(1, 4)})
        if rng.random() < 0.06:
            tune = rng.choice(MUSIC)
            items.append({"kind": "music", "file": tune, "seconds": rng.uniform(4, 15), "gain_db": -6})
    options = ["-b:a", bit_rate] if bit_rate else []
    return {"sample_rate": rate, "seed": seed, "container": container, "items": items, "ffmpeg": options}


def plans() -> dict[str, dict[str, Any]]:
    """The plans by name: x_* were mixed first, y_* after the first version had been tuned on the others."""
    a = [libri(s) for s in ("3005", "3080", "3331", "367", "533")]
    b = [libri(s) for s in ("1688", "1998", "2033", "2414", "2609")]
    v = [vctk(s) for s in ("p225", "p226", "p227", "p228")]
    third = [pool[:3] for pool in a + b] + [pool[:4] for pool in v] + [vctk("p230")]
    twice = libri("2033") + libri("2033")
    return {
        "x_libri5": plan(1, a, 25, "mp3", rate=48_000, bit_rate="96k"),
        "x_vctk4": plan(2, v, 36, "m4a", gains_db=(-6, 0, -3, 0)),
        "x_fifteen": plan(3, third, 44, "mp4", bed=0.2, overlap=0.1),
        "x_mix3": plan(4, [b[0], a[4], v[2]], 20, "opus", bed=0.3, overlap=0.2, rate=48_000, bit_rate="48k"),
        "x_two": plan(5, [b[3], a[1]], 10, "m4a", bed=0.2, overlap=0.2),
        "x_one": plan(6, [twice], 10, "m4a", bed=0.2, overlap=0.0),
        "y_libri4": plan(21, [a[4], b[1], a[1], b[4]], 20, "mp3", bed=0.3, bit_rate="64k"),
        "y_vctk2": plan(22, [v[0], v[3]], 20, "m4a", gains_db=(-10, 0), bed=0.3, overlap=0.2),
        "y_eight": plan(23, [*a, *v[1:]], 48, "mp4", bed=0.25, overlap=0.15),
        "y_mix4": plan(24, [b[2], a[3], v[0], v[1]], 28, "opus", bed=0.3, overlap=0.2, rate=48_000, bit_rate="32k"),
        "y_three": plan(25, [a[0], a[2], v[3]], 18, "m4a", bed=0.2, overlap=0.25),
        "y_vone": plan(26, [v[1]], 10, "m4a", bed=0.3, overlap=0.0),
        "y_ten": plan(27, [pool[2:] for pool in a + b], 30, "mp3", bed=0.15, overlap=0.1, bit_rate="96k"),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, found in plans().items():
        (out / f"{name}.json").write_text(json.dumps({"name": name, **found}, indent=1))

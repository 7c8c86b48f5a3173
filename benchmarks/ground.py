"""Audio-visual grounding on spoken digits and rendered ones, voices and fonts held out: recall, and what it took.

    python benchmarks/ground.py FOLDER [--held-out george,theo] [--epochs 24] [--no-key] [--widths …]

FOLDER takes the pictures, a table of pairs for each speaker held out, and the trained models (FOLDER/model-SPEAKER);
what is there is not made again, and a training that was stopped goes on after its last whole epoch. $PDID_TEST_DATA
has clips/fsdd. Training hears takes 5 to 49 of the other five speakers; the test is all 50 takes of each digit of the
one held out, and, beside it, takes 0 to 4 of those that were heard. Each clip has a picture of its own, 64 × 64, drawn
in one of the fonts that matplotlib ships: TRAIN_FONTS in training, TEST_FONTS in the test. Prints one table.

The branch is half as wide as the paper's, WIDTHS, so that an epoch takes seconds on one processor; Adam's rate is
as much higher (and a little), for its steps count by the weights they come through.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from asr_experiments.grounding.images import small_backbone
from asr_experiments.grounding.model import MODEL_FILE, load_grounding, save_grounding
from asr_experiments.grounding.pairs import read_pairs
from asr_experiments.grounding.retrieval import Retrieval, retrieve
from asr_experiments.grounding.train import GroundingSettings, train_grounding

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DEJAVU = ("", "-Bold", "-Oblique", "-BoldOblique")
TRAIN_FONTS = (
    *(f"DejaVuSans{style}" for style in DEJAVU),
    *(f"DejaVuSansMono{style}" for style in DEJAVU),
    *("cmr10", "cmb10", "cmti10", "cmss10", "cmtt10"),
)
TEST_FONTS = (
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
SIDE = 64
WIDTHS, EPOCHS, BATCH, RATE = (64, 128, 128, 256, 512), 24, 32, 1e-3


def draw(digit: int, fonts: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """A digit in some font, size, place, slant and dark colour on a light one, with noise."""
    from matplotlib import get_data_path

    ink, paper = rng.integers(0, 90, 3), rng.integers(170, 256, 3)
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{rng.choice(fonts)}.ttf", int(rng.integers(40, 60)))
    mask = Image.new("L", (SIDE, SIDE))
    place = SIDE / 2 + rng.uniform(-4, 4, 2)
    ImageDraw.Draw(mask).text((place[0], place[1]), str(digit), fill=255, font=font, anchor="mm")
    turned = np.asarray(mask.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR))[..., None] / 255
    pixels = paper + (ink - paper) * turned + rng.normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_pictures(folder: Path) -> None:
    """A picture for training and one for the test, for every clip."""
    for side, fonts in (("train", TRAIN_FONTS), ("test", TEST_FONTS)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        for path in sorted(fsdd().glob("*.wav")):
            target = folder / side / f"{path.stem}.png"
            if not target.exists():
                digit, _, take = path.stem.split("_")
                rng = np.random.default_rng([int(digit), int(take), *path.stem.encode(), len(fonts)])
                draw(int(digit), fonts, rng).save(target)


def fsdd() -> Path:
    return Path(os.environ["PDID_TEST_DATA"]).absolute() / "clips" / "fsdd"


def write_table(path: Path, held_out: str, *, seen: bool = False, key: bool = True) -> Path:
    """The pairs with one speaker held out; with `seen` the test is takes 0 to 4 of the speakers that were heard."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "clip", "speaker", "split", *(["key"] if key else [])])
        for clip in sorted(fsdd().glob("*.wav")):
            digit, speaker, take = clip.stem.split("_")
            test = (speaker != held_out and int(take) < 5) if seen else speaker == held_out
            if test or (speaker != held_out and int(take) >= 5):
                side = "test" if test else "train"
                row = [f"pictures/{side}/{clip.stem}.png", clip, speaker, side]
                writer.writerow([*row, *([digit] if key else [])])
    return path


def figures(found: Retrieval) -> str:
    return " | ".join(
        " / ".join(f"{share:.3f}" for share in way.recall.values())
        for way in (found.image_by_speech, found.speech_by_image)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", default=",".join(SPEAKERS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)), help="the paper's: 128,256,256,512,1024")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--learning-rate", type=float, default=RATE)
    parser.add_argument("--no-key", action="store_true", help="train without knowing which pairs show the same digit")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    make_pictures(given.folder / "pictures")
    widths = tuple(map(int, given.widths.split(",")))
    settings = GroundingSettings(widths, given.epochs, given.batch, given.learning_rate)
    print(
        "| held out | picture by speech, recall@1 / 5 / 10 | speech by picture | heard voices, new takes | reversed "
        f"| minutes |\n|{'---|' * 6}"
    )
    for speaker in given.held_out.split(","):
        name = f"{speaker}{'-no-key' if given.no_key else ''}"
        table = write_table(given.folder / f"{name}.csv", speaker)
        known = write_table(given.folder / f"{name}-seen.csv", speaker, seen=True)
        pairs, model = read_pairs(table), given.folder / f"model-{name}"
        minutes = "before"
        if not (model / MODEL_FILE).exists():
            taught = pairs.train
            if given.no_key:
                taught = read_pairs(write_table(given.folder / "no-key.csv", speaker, key=False)).train
            began = time.monotonic()

            def say(what: str, share: float, began: float = began) -> None:
                if sys.stderr.isatty():
                    minutes = (time.monotonic() - began) / 60
                    print(f"\r{what}: {share:.1%} after {minutes:.1f} min ", end="", file=sys.stderr, flush=True)

            made = train_grounding(taught, small_backbone(), settings, device, say, model / "checkpoint")
            minutes = f"{(time.monotonic() - began) / 60:.1f}"
            save_grounding(made, model)
        made = load_grounding(model, device)
        new, heard = retrieve(made, pairs.test), retrieve(made, read_pairs(known).test)
        print(f"| {speaker} ({new.n_clips}) | {figures(new)} | {figures(heard)} | {minutes} |", flush=True)


if __name__ == "__main__":
    main()

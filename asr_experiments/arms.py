"""The arms of the benchmark: what each adds to the original speech (METHOD §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from catalog.errors import UsageError

if TYPE_CHECKING:  # the names of the arms are wanted in help texts, where torch is too slow to import
    from asr_experiments.cam import SaliencyMaps
    from asr_experiments.features import Floats
    from asr_experiments.masking import Arm as MaskArm
    from asr_experiments.masking import MaskSettings
    from asr_experiments.training_set import Augment

ArmName = Literal[
    "zero-shot",
    "finetune",
    "specaugment",
    "specaugment-matched",
    "saliency",
    "saliency++",
    "random",
    "swapped",
    "binary",
    "ctc",
    "align",
]
TAUGHT: tuple[ArmName, ...] = ("ctc", "align")
"""The arms that train a new CTC head on an encoder, without and with a language model's help: a comparison of its own,
so they are asked for by name. The others train the whole Whisper."""

ARMS: tuple[ArmName, ...] = tuple(arm for arm in get_args(ArmName) if arm not in TAUGHT)
"""What `all` names."""

UNTRAINED: ArmName = "zero-shot"
"""The model as it is: one cell, whatever the seeds."""

PLAIN: frozenset[ArmName] = frozenset({"zero-shot", "finetune", *TAUGHT})
"""Arms without a changed copy."""

WITHOUT_MAPS: frozenset[ArmName] = PLAIN | {"specaugment"}
"""Arms that need no classifier."""


def read_arms(text: str) -> tuple[ArmName, ...]:
    """The arms that a comma-separated list names; `all` stands for every one but `ctc` and `align`.

    Raises UsageError for one that is none.
    """
    known = ARMS + TAUGHT
    names = [name.strip() for name in text.split(",") if name.strip()]
    if "all" in names:
        names = [each for name in names for each in (ARMS if name == "all" else (name,))]
    for name in names:
        if name not in known:
            raise UsageError(f"--arms: there is no arm {name!r}; there are {', '.join(known)}")
    if not names:
        raise UsageError(f"--arms: name at least one of {', '.join(known)}")
    return cast("tuple[ArmName, ...]", tuple(dict.fromkeys(names)))


def make_augment(arm: ArmName, maps: SaliencyMaps | None, settings: MaskSettings) -> Augment | None:
    """The function that makes the changed copy of an arm's clips, or None where there is none.

    `maps` are the training clips' saliency maps in the order of the training set (Grad-CAM++ ones for
    `saliency++`); arms that need none may be given None. For `swapped` the other clip is drawn anew each time.
    """
    if arm in PLAIN:
        return None
    from asr_experiments.masking import apply_mask, arm_mask

    kind = cast("MaskArm", "saliency" if arm == "saliency++" else arm)

    def augment(features: Floats, n_valid: int, index: int, rng: np.random.Generator) -> tuple[Floats, float]:
        saliency = maps[index] if maps else np.zeros_like(features)
        other = None
        if maps and arm == "swapped" and len(maps) > 1:
            i = int(rng.integers(len(maps) - 1))
            i += i >= index
            other = maps[i], maps.mels.lengths(i)[0]
        mask = arm_mask(kind, saliency, n_valid, rng, settings, other)
        masked = apply_mask(features, mask, n_valid, settings.fill)
        return masked.features, masked.share

    return augment

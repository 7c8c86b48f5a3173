"""Linear probes: what can be read off a layer by one matrix (Alain & Bengio, arXiv 1610.01644).

Multinomial logistic regression on standardised features, its classes weighing the same whatever their numbers, with
the strength of its L2 penalty chosen over inner folds of the training examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_experiments.classifier import Ints
from asr_experiments.features import Floats
from catalog.errors import UsageError

L2 = (1.0, 0.1, 0.01, 0.001)
"""Penalties tried: L2/2 times the squared weights, beside the mean cross-entropy. From the strongest on."""

INNER_FOLDS = 3
ITERATIONS = 200

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Probe:
    """A trained probe: (features − mean) / scale times `weights` (width + 1, classes), whose last row is a bias."""

    mean: Doubles
    scale: Doubles
    weights: Doubles
    l2: float

    def predict(self, x: Floats) -> Ints:
        """The likeliest class, (n,), of each of n examples (n, width)."""
        return np.asarray((_with_one((x - self.mean) / self.scale) @ self.weights).argmax(1), np.int64)


def train_probe(
    x: Floats, y: Ints, n_classes: int, groups: Sequence[str], seed: int = 0, l2: float | None = None
) -> Probe:
    """Train on n examples x (n, width) of classes y (n,); `groups` (n,) stay together in the inner folds.

    A class of one group is folded example by example. With `l2` nothing is chosen. Raises UsageError where one class
    or none is there to tell apart.
    """
    if len(set(y.tolist())) < 2:
        raise UsageError(f"a probe needs two classes or more to tell apart, got {len(set(y.tolist()))}")
    mean = np.asarray(np.mean(x, 0, dtype=np.float64))
    scale = np.asarray(np.std(x, 0, dtype=np.float64))
    scale = np.where(scale > 1e-8 * (1 + np.abs(mean)), scale, 1.0)  # a dead unit stays 0
    z, basis = _turned((x - mean) / scale)
    if l2 is None:
        l2 = _chosen(z, y, n_classes, groups, seed)
    weights = _fit(z, y, n_classes, l2, None)
    return Probe(mean, scale, np.vstack([basis @ weights[:-1], weights[-1:]]), l2)


def _turned(x: Doubles) -> tuple[Doubles, Doubles]:
    """Examples (n, width) in at most n coordinates, and the basis (width, n): an L2 penalty does not see rotations, so
    the fit is the same and its cost no longer grows with the width."""
    n, width = x.shape
    if width <= n:
        return x, np.eye(width)
    basis, _ = np.linalg.qr(x.T)
    return x @ basis, basis


def _chosen(x: Doubles, y: Ints, n_classes: int, groups: Sequence[str], seed: int) -> float:
    """The penalty with the most right, classes weighing the same; of equals the strongest."""
    folds = inner_folds(y, groups, seed)
    weight = _balance(y, n_classes)
    right = np.zeros(len(L2))
    for fold in range(INNER_FOLDS):
        held = folds == fold
        if held.all() or not held.any() or len(set(y[~held].tolist())) < 2:
            continue
        start: Doubles | None = None
        for k, l2 in enumerate(L2):
            start = _fit(x[~held], y[~held], n_classes, l2, start)
            said = (_with_one(x[held]) @ start).argmax(1)
            right[k] += float(weight[held] @ (said == y[held]))
    return L2[int(right.argmax())]


def inner_folds(y: Ints, groups: Sequence[str], seed: int) -> Ints:
    """The inner fold (n,) of each example: within a class, groups by turns in random order."""
    rng = np.random.default_rng(seed)
    found = np.zeros(len(y), np.int64)
    names = np.asarray(groups, dtype=object)
    for label in sorted(set(y.tolist())):
        own = np.flatnonzero(y == label)
        several = sorted(set(names[own]))
        if len(several) < 2:
            found[rng.permutation(own)] = np.arange(len(own)) % INNER_FOLDS
        for turn, k in enumerate(rng.permutation(len(several)) if len(several) > 1 else ()):
            found[own[names[own] == several[k]]] = turn % INNER_FOLDS
    return found


def _fit(x: Doubles, y: Ints, n_classes: int, l2: float, start: Doubles | None) -> Doubles:
    """Weights (width + 1, classes) that minimise the balanced mean cross-entropy and the penalty, by L-BFGS."""
    from scipy.optimize import minimize

    ones = _with_one(x)
    weight = _balance(y, n_classes)
    target = np.zeros((len(y), n_classes))
    target[np.arange(len(y)), y] = 1.0
    shape = (ones.shape[1], n_classes)

    def cost(flat: Doubles) -> tuple[float, Doubles]:
        weights = flat.reshape(shape)
        scores = ones @ weights
        scores -= scores.max(1, keepdims=True)
        total = np.exp(scores).sum(1, keepdims=True)
        loss = float(weight @ (np.log(total[:, 0]) - scores[np.arange(len(y)), y]))
        slope = ones.T @ (weight[:, None] * (np.exp(scores) / total - target))
        slope[:-1] += l2 * weights[:-1]
        return loss + 0.5 * l2 * float(np.sum(weights[:-1] ** 2)), slope.ravel()

    begin = np.zeros(shape) if start is None else start
    done = minimize(cost, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "gtol": 1e-4})
    return np.asarray(done.x, np.float64).reshape(shape)


def _balance(y: Ints, n_classes: int) -> Doubles:
    """Each example's weight (n,): the classes that are there weigh the same, 1 in all."""
    counts = np.bincount(y, minlength=n_classes)
    each = np.divide(1.0, counts * np.count_nonzero(counts), where=counts > 0, out=np.zeros(n_classes))
    return np.asarray(each[y], np.float64)


def _with_one(x: Doubles) -> Doubles:
    return np.hstack([x, np.ones((len(x), 1))])

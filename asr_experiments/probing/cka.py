"""How alike two layers are: linear centred kernel alignment (Kornblith et al., arXiv 1905.00414), debiased.

The plain estimate grows with the width of the layers where examples are few, up to 1 for noise against noise. Here
the unbiased estimate of HSIC (Song et al., "Feature selection via dependence maximization", JMLR 13, 2012, eq. 5)
stands in all three places, as Nguyen et al. (arXiv 2010.15327) do; it is about 0 for unrelated layers, or just below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asr_experiments.features import Floats
from catalog.errors import PdidError

Doubles = NDArray[np.float64]


def linear_cka(x: Floats, y: Floats) -> float:
    """Debiased linear CKA of two layers' answers to the same n examples: x (n, p) and y (n, q); 1 if alike but for
    rotation and scale. A layer that says the same of every example is like nothing: 0.

    In features rather than examples, so that n may be large: memory p × q. Raises PdidError for fewer than 4 examples
    or different numbers of them.
    """
    if len(x) != len(y) or len(x) < 4:
        raise PdidError(f"CKA compares answers to the same 4 examples or more, got {len(x)} and {len(y)}")
    a, b = (np.asarray(one, np.float64) - np.mean(one, 0, dtype=np.float64) for one in (x, y))
    own = _hsic(a, a) * _hsic(b, b)
    return _hsic(a, b) / float(np.sqrt(own)) if own > 0 else 0.0


def _hsic(x: Doubles, y: Doubles) -> float:
    """The unbiased HSIC of linear kernels K = xxᵀ and L = yyᵀ with their diagonals set to 0."""
    n = len(x)
    k, m = np.sum(x**2, 1), np.sum(y**2, 1)  # the diagonals
    trace = float(np.sum((x.T @ y) ** 2) - k @ m)
    k_rows, l_rows = x @ x.sum(0) - k, y @ y.sum(0) - m
    middle = float(k_rows.sum() * l_rows.sum()) / ((n - 1) * (n - 2))
    return (trace + middle - 2.0 / (n - 2) * float(k_rows @ l_rows)) / (n * (n - 3))

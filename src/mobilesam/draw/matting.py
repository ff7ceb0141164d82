"""Closed-form matting (Levin et al. 2008) by pymatting, an extra: for hair and fur."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mobilesam.core.errors import MissingExtraError
from mobilesam.core.extras import install_line
from mobilesam.draw.alpha import Matte

STEPS = 60  # of conjugate gradients: what they have reached by then is good enough to look at
TOLERANCE = 1e-3
COMPILED = ".nbi"  # ending of numba's index of what it compiled
NOISE = 1e-5  # variance of colours that still counts as none


def is_compiled() -> bool:
    """Whether pymatting, if it is installed, is ready: its first import compiles for a minute or more."""
    found = find_spec("pymatting")
    return found is None or found.origin is None or any(Path(found.origin).parent.rglob(f"*{COMPILED}"))


def load_matte() -> Matte:
    """Return what solves a band's alpha by closed-form matting.

    pymatting compiles its parts when it is first imported after its installation, which takes a minute or more.

    Raises:
        MissingExtraError: if ``mobilesam[matting]`` is not installed.
    """
    try:
        from pymatting import estimate_alpha_cf
    except ImportError as error:
        raise MissingExtraError(
            f"matting: needs packages that are not installed; {install_line('matting')}"
        ) from error

    def solve(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it stopped before it converged
            alpha = estimate_alpha_cf(
                image.astype(np.float64),
                trimap.astype(np.float64),
                laplacian_kwargs={"epsilon": NOISE},
                cg_kwargs={"maxiter": STEPS, "rtol": TOLERANCE},
            )
        return np.asarray(alpha, np.float32)

    return solve

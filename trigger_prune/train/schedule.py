"""Learning rate during a fit."""

from __future__ import annotations

import math


def one_cycle_learning_rate(
    step: int, total_steps: int, peak: float, *, warmup_fraction: float, start_fraction: float, final_fraction: float
) -> float:
    """Learning rate of ``step`` (0 .. total_steps - 1): cosine rise to ``peak``, then cosine fall.

    Begins at ``peak * start_fraction``, reaches ``peak`` after ``warmup_fraction`` of the steps and ends at
    ``peak * final_fraction``. L. Smith and N. Topin, arXiv:1708.07120, in the two-phase form of torch's OneCycleLR.
    """
    top = warmup_fraction * total_steps - 1.0
    if step <= top:
        return _cosine(peak * start_fraction, peak, step / top if top > 0 else 1.0)
    # with a warm-up shorter than one step the peak is at step 0
    top = max(top, 0.0)
    last = total_steps - 1
    return _cosine(peak, peak * final_fraction, (step - top) / (last - top) if last > top else 0.0)


def _cosine(begin: float, end: float, fraction: float) -> float:
    return end + (begin - end) / 2.0 * (1.0 + math.cos(math.pi * fraction))

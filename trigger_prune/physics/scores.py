"""From logits to what a trigger decides: the class and the one-versus-rest score.

A firmware that ends in logits can compare and subtract them, but has no softmax. The score of class ``c`` is therefore
``z_c - max(z of the other classes)``, for the float and the deployed network alike, so that both are
judged by the same rule. It is positive exactly where ``c`` is the (unique) decision. ``Score`` is the same thing for a
trigger: the number that is compared with a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def check_logits(logits: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
    """Raise DataError unless logits are finite ``(events, classes >= 2)`` and labels and weights match them."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"logits have shape {logits.shape}, not (events, classes) with two classes or more")
    if not len(logits) == len(labels) == len(weights):
        raise DataError(f"{len(logits)} rows of logits, {len(labels)} labels and {len(weights)} weights do not match")
    if len(labels) == 0:
        raise DataError("no events to evaluate")
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"logits of row {row} are {logits[row].tolist()} ({int((~finite).sum())} rows are not finite)")
    outside = (labels < 0) | (labels >= logits.shape[1])
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(f"label {labels[row]} of row {row} has no logit; the network has {logits.shape[1]} outputs")


def decide(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """Class with the largest logit; among equal ones the first, as a comparator chain does it. int64 ``(events,)``."""
    decision: NDArray[np.int64] = np.argmax(logits, axis=1).astype(np.int64)
    return decision


def class_score(logits: NDArray[np.floating], class_index: int) -> NDArray[np.float64]:
    """``z_c - max(z of the other classes)``, float64 ``(events,)``. Exact for fixed-point logits, so ties stay ties."""
    exact = logits.astype(np.float64)
    others = np.delete(exact, class_index, axis=1).max(axis=1)
    score: NDArray[np.float64] = exact[:, class_index] - others
    return score


ScoreKind = Literal["head", "difference", "sum_of_squares", "reconstruction"]


@dataclass(frozen=True)
class Score:
    """The one number per event that the trigger compares with a threshold; larger is more signal-like.

    It is built from the network's outputs by comparators, subtractors and multipliers alone, so the firmware computes
    it to the last bit. Training, pruning, export and reports share this object.

    kind                 ``head``: the only output. ``difference``: largest output of ``signal_outputs`` minus largest
                         of ``background_outputs`` (a softmax would not change which is larger).
                         ``sum_of_squares``: of all outputs, the anomaly score of a latent vector (CMS AXOL1TL).
                         ``reconstruction``: sum of squared differences of outputs and inputs, of an autoencoder.
    signal_outputs, background_outputs   indices of outputs, of ``difference`` only

    Raises DataError for a difference of no outputs, or of one output with itself.
    """

    kind: ScoreKind
    signal_outputs: tuple[int, ...] = ()
    background_outputs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        listed = (*self.signal_outputs, *self.background_outputs)
        if self.kind != "difference":
            if listed:
                raise DataError(f"a score of kind {self.kind!r} does not choose among outputs")
        elif not self.signal_outputs or not self.background_outputs:
            raise DataError("a score needs signal and background outputs")
        elif len(set(listed)) != len(listed):
            raise DataError(f"output {max(listed, key=listed.count)} is counted twice in the score")

    def of(self, outputs: NDArray[np.floating], inputs: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """Scores ``(events,)`` of outputs ``(events, k)``; ``inputs`` ``(events, ...)`` only for ``reconstruction``.

        Exact for fixed-point outputs whose squares fit 53 bits, so equal scores stay equal.
        Raises DataError for outputs of another shape or that are not finite.
        """
        exact = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
        self._check(exact.shape, None if inputs is None else inputs.shape)
        finite = np.isfinite(exact).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise DataError(f"outputs of row {row} are {exact[row].tolist()}: no score can be made of them")
        if self.kind == "head":
            return exact[:, 0]
        if self.kind == "difference":
            best = exact[:, self.signal_outputs].max(axis=1), exact[:, self.background_outputs].max(axis=1)
            return np.asarray(best[0] - best[1])
        reference = 0.0 if inputs is None else np.asarray(inputs, np.float64).reshape(len(exact), -1)
        return np.asarray(np.square(exact - reference).sum(axis=1))

    def tensor(self, outputs: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The same of torch tensors, differentiable."""
        flat = outputs.flatten(1)
        self._check(tuple(flat.shape), None if inputs is None else tuple(inputs.shape))
        if self.kind == "head":
            return flat[:, 0]
        if self.kind == "difference":
            signal, background = flat[:, list(self.signal_outputs)], flat[:, list(self.background_outputs)]
            return signal.amax(dim=1) - background.amax(dim=1)
        difference = flat if inputs is None else flat - inputs.flatten(1)
        return difference.square().sum(dim=1)

    def describe(self, output_names: Sequence[str]) -> str:
        """The formula in words, for reports."""
        if self.kind == "head":
            return "the network's output"
        if self.kind == "sum_of_squares":
            return f"sum of the squares of the {len(output_names)} outputs"
        if self.kind == "reconstruction":
            return "sum of the squared differences of outputs and inputs"
        signal, background = (
            f"max({', '.join(f'z_{output_names[i]}' for i in chosen)})"
            if len(chosen) > 1
            else f"z_{output_names[chosen[0]]}"
            for chosen in (self.signal_outputs, self.background_outputs)
        )
        return f"{signal} - {background}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal score."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Score:
        """Inverse of ``to_dict``."""
        return cls(raw["kind"], tuple(raw["signal_outputs"]), tuple(raw["background_outputs"]))

    def _check(self, shape: tuple[int, ...], inputs: tuple[int, ...] | None) -> None:
        n_outputs = shape[1]
        if self.kind == "head" and n_outputs != 1:
            raise DataError(f"the score is the network's one output, but it has {n_outputs}")
        if self.kind == "difference" and max(*self.signal_outputs, *self.background_outputs) >= n_outputs:
            raise DataError(f"the score uses more outputs than the {n_outputs} of the network")
        if (self.kind == "reconstruction") != (inputs is not None):
            need = "needs the inputs" if inputs is None else "takes no inputs"
            raise DataError(f"a score of kind {self.kind!r} {need}")
        if inputs is not None and math.prod(inputs[1:]) != n_outputs:
            raise DataError(f"{n_outputs} outputs cannot reconstruct inputs of shape {inputs[1:]}")

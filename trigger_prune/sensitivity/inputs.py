"""Which inputs the network needs: exact copies, constants, and what shuffling an input costs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx, nn

from trigger_prune.errors import DataError
from trigger_prune.sensitivity.findings import InputFinding
from trigger_prune.sensitivity.scanner import Scanner
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.train.evaluate import LOSS, Batches, evaluate
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective


@dataclass(frozen=True)
class RedundantInput:
    """An input that carries nothing new: a copy of the input ``same_as``, or the one value ``constant``."""

    index: int
    kind: Literal["duplicate", "constant"]
    same_as: int | None
    constant: float | None


def find_redundant_inputs(train_features: ArrayLike) -> list[RedundantInput]:
    """Redundant inputs by index, found by exact equality on all events.

    train_features   ``(n, F, ...)`` on the hardware grid (after the input transform: that is what the firmware sees,
                     and two features may become equal only there)

    An input that equals one of lower index is its duplicate, so of a pair the first is kept; ``same_as`` is always an
    input that is kept. One that has a single value on all events (and positions) is constant, never a duplicate.
    Raises DataError for no events or NaN, which equals nothing.
    """
    features = np.asarray(train_features)
    if features.ndim < 2 or len(features) == 0:
        raise DataError(f"features of shape {features.shape} hold no events to compare inputs on")
    found: list[RedundantInput] = []
    kept_by_digest: dict[bytes, list[int]] = {}
    for index in range(features.shape[1]):
        column = _column(features, index)
        if np.isnan(column).any():
            raise DataError(f"input {index} holds NaN in row {int(np.argwhere(np.isnan(column))[0][0])}")
        if (column == column.flat[0]).all():
            found.append(RedundantInput(index, "constant", None, float(column.flat[0])))
            continue
        candidates = kept_by_digest.setdefault(hashlib.blake2b(column.tobytes()).digest(), [])
        original = next((i for i in candidates if np.array_equal(_column(features, i), column)), None)
        if original is None:
            candidates.append(index)
        else:
            found.append(RedundantInput(index, "duplicate", original, None))
    return found


def _column(features: NDArray[np.generic], index: int) -> NDArray[np.float64]:
    # + 0.0 turns -0.0 into 0.0: equal numbers must have equal bytes
    return np.ascontiguousarray(features[:, index], dtype=np.float64) + 0.0


def scan_inputs(
    network: nn.Module,
    batches: Batches,
    feature_names: Sequence[str],
    redundant: Sequence[RedundantInput],
    task: Task,
    *,
    objective: Objective = LOSS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    settings: ScanSettings | None = None,
    groups: NDArray[np.int64] | None = None,
) -> list[InputFinding]:
    """One finding per input: loss increase, accuracy drop and merit drop when it is shuffled among the events.

    Permutation importance (L. Breiman, Machine Learning 45 (2001) 5). Of ``(n, F, ...)`` the whole plane of one
    feature moves from event to event; an autoencoder still has to reconstruct the true values. Same seed, same result.
    Of two equal inputs each alone may look unimportant, because the network can lean on the other one.

    settings, groups   for a quantised graph: then all figures of the shuffled, and of the removed input, with intervals
                       by the resamples of ``settings`` are in the findings too
    Raises DataError when the number of names is not the number of inputs.
    """
    n_features = batches.features.shape[1]
    if len(feature_names) != n_features:
        raise DataError(f"{len(feature_names)} feature names for {n_features} network inputs")
    by_index = {entry.index: entry for entry in redundant}
    order = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(len(batches), generator=order).to(batches.features.device) for _ in range(n_features)]
    if settings is not None and isinstance(network, fx.GraphModule):
        return _with_figures(
            network, batches, feature_names, by_index, task, objective, rows, progress, settings, groups
        )
    baseline = evaluate(network, batches, task, objective)
    findings: list[InputFinding] = []
    for index, name in enumerate(feature_names):
        features = batches.features.clone()
        features[:, index] = batches.features[rows[index], index]
        shuffled = evaluate(network, batches.with_features(features), task, objective)
        drop = None
        if baseline.accuracy is not None and shuffled.accuracy is not None:
            drop = baseline.accuracy - shuffled.accuracy
        losses = shuffled.loss - baseline.loss, drop, baseline.merit - shuffled.merit
        findings.append(_finding(name, index, feature_names, by_index.get(index), *losses))
        if progress is not None:
            progress(index + 1, n_features)
    return findings


def _with_figures(
    network: fx.GraphModule,
    batches: Batches,
    names: Sequence[str],
    by_index: dict[int, RedundantInput],
    task: Task,
    objective: Objective,
    rows: Sequence[Tensor],
    progress: Callable[[int, int], None] | None,
    settings: ScanSettings,
    groups: NDArray[np.int64] | None,
) -> list[InputFinding]:
    """All inputs as one batch of the unchanged network, on all events whatever the settings' interval width."""
    scanner = Scanner(network, batches, task, objective, replace(settings, interval_width=None), groups)
    features = batches.features
    moved = torch.stack([features[row, index] for index, row in enumerate(rows)], dim=1)
    found = []
    for number, other in enumerate((moved, torch.zeros_like(features))):
        found.append([judged.figures for judged in scanner.judge_inputs(other)])
        if progress is not None:
            progress(len(names) * (number + 1) // 2, len(names))
    findings = []
    for index, (shuffled, removed) in enumerate(zip(*found, strict=True)):
        accuracy = shuffled.get("accuracy")
        base_merit = scanner.merit(scanner.baseline.figures)
        finding = _finding(
            names[index],
            index,
            names,
            by_index.get(index),
            shuffled["loss"].change,
            None if accuracy is None else -accuracy.change,
            base_merit - scanner.merit(shuffled),
        )
        findings.append(replace(finding, shuffled=shuffled, removed=removed))
    return findings


def _finding(
    name: str,
    index: int,
    names: Sequence[str],
    entry: RedundantInput | None,
    loss_increase: float,
    accuracy_drop: float | None,
    merit_drop: float,
) -> InputFinding:
    return InputFinding(
        name=name,
        index=index,
        kind="informative" if entry is None else entry.kind,
        same_as=None if entry is None or entry.same_as is None else names[entry.same_as],
        constant_value=None if entry is None else entry.constant,
        loss_increase=loss_increase,
        accuracy_drop=accuracy_drop,
        merit_drop=merit_drop,
    )

"""A trained ticket as a quantised network, its mask frozen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.fine_tune import polish
from trigger_prune.prune.lottery.masks import Masks, apply_masks
from trigger_prune.quantize.convert import Precision, quantize_model
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.history import EpochRecord, FitHistory


def quantised_ticket(
    network: nn.Module, masks: Masks, calibration: Tensor, input_type: FixedPoint, precision: Precision
) -> fx.GraphModule:
    """A fixed-point copy of a trained ticket with ``masks`` on its weight layers.

    Folding batch normalisation scales the rows of a weight, so what was zero stays zero. Raises ModelError for masks of
    another network, and what ``quantize_model`` raises.
    """
    apply_masks(network, masks)
    quantised = quantize_model(network, calibration, input_type, precision)
    for name, layer in prunable_layers(quantised).items():
        if name not in masks or masks[name].shape != layer.weight.shape:
            raise ModelError(
                f"layer {name!r} of the quantised network has no mask of shape {tuple(layer.weight.shape)}",
                hint="a layer that serves two names keeps the first; give each its own",
            )
        with torch.no_grad():
            layer.weight_mask.copy_(masks[name])
    return quantised


def deploy_ticket(
    network: nn.Module,
    masks: Masks,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    *,
    calibration: Tensor,
    input_type: FixedPoint,
    precision: Precision,
    progress: Callable[[EpochRecord, int], None] | None = None,
) -> tuple[fx.GraphModule, FitHistory]:
    """``quantised_ticket`` after quantisation-aware training under its frozen mask, and the training's history.

    calibration   see ``quantize_model``; settings of the training
    """
    quantised = quantised_ticket(network, masks, calibration, input_type, precision)
    return quantised, polish(quantised, train, validation, settings, progress)

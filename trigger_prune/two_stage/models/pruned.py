"""The full network itself, pruned much further than it would be for use alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from trigger_prune.config.two_stage_section import LightConfig
from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import Rounding
from trigger_prune.physics.scores import Score
from trigger_prune.prune.fine_tune import RampPlan, ramp
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import ChannelQuantizer, FixedQuantizer, QuantLinear
from trigger_prune.quantize.ranges import best_type, bias_type
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.sensitivity.precision import Wiring, activation_variants
from trigger_prune.sensitivity.variants import Variant
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.two_stage.models.difficulty import SoftAccept, difficulty_batches
from trigger_prune.two_stage.models.light_inputs import FullModel, FullScores, LightInputs
from trigger_prune.two_stage.models.light_model import LightModel
from trigger_prune.two_stage.models.tiny import calibration_features


def make_pruned(
    name: str,
    config: LightConfig,
    full: FullModel,
    inputs: LightInputs,
    full_scores: FullScores,
) -> LightModel:
    """A copy of the full network with exactly ``round(sparsity x weights)`` of its weights masked, by global magnitude.

    The mask closes along a cubic ramp over the first half of ``config.epochs`` of quantisation-aware training; the
    other half trains what is left, for the project's own loss or, with difficulty ``learned``, for the full model's
    decision. Neurons and inputs without effect are taken out bit for bit. Weights and activations have the bits of
    ``config``, whatever the full network had.
    Raises ConfigError for a full model that is not quantised, and for a learned difficulty where the full score is no
    output of a last linear layer.
    """
    if not isinstance(full.network, fx.GraphModule) or is_weights_only(full.network):
        raise ConfigError(
            f"light model {name!r}: kind pruned needs a quantised full model, and this one has float activations",
            hint="use kind: tiny",
        )
    train, validation = (_reading(events, full) for events in (inputs.train, inputs.validation))
    network = copy.deepcopy(full.network).cpu()
    score, settings = full.score, inputs.settings
    notes: tuple[str, ...] = ()
    if config.difficulty == "learned":
        train, validation, rule = difficulty_batches(replace(inputs, train=train, validation=validation), *full_scores)
        put_decision_head(network, full.score, rule, name)
        score, settings = Score("head"), replace(settings, task="binary", objective=LOSS, batch_loss=None)
        notes = (f"its output says whether the full score reaches {rule.threshold:.6g}",)
    notes += set_bits(network, config.weight_bits, config.activation_bits, calibration_features(train))
    settings = replace(settings, phase=name, epochs=config.epochs, patience_epochs=None, select="best")
    ramp(network, train, validation, settings, RampPlan(config.sparsity), inputs.on_epoch)
    shrunk = shrink_network(network)
    kept = tuple(full.kept_inputs[index] for index in shrunk.kept_inputs)
    return LightModel(name, "pruned", config.difficulty, shrunk.network, kept, score, notes)


def _reading(events: Batches, full: FullModel) -> Batches:
    return events.with_features(events.features[:, list(full.kept_inputs)])


def set_bits(network: fx.GraphModule, weight_bits: int, activation_bits: int, calibration: Tensor) -> tuple[str, ...]:
    """Give every prunable layer and every activation so many bits, in place; the float weights stay what they were.

    Binary points go where the mean squared error is smallest. Returns what could not be changed, in sentences.
    """
    for _, _, variant in activation_variants(network, [activation_bits], calibration):
        _apply(network, variant)
    wiring = Wiring(network)
    for layer_name, layer in prunable_layers(network).items():
        kept = (layer.weight * layer.weight_mask).detach().double().cpu().numpy()
        layer.weight_type = best_type(kept, weight_bits, signed=True, rounding=Rounding.AP_RND_CONV)
        fraction = wiring.input_fraction(layer_name)
        if layer.bias is not None and fraction is not None:
            following = wiring.following(layer_name)
            layer.bias_type = bias_type(
                layer.bias.detach().double().cpu().numpy(),
                fraction + layer.weight_type.fraction,
                at_least=(following or layer.weight_type).max_value,
            )
    if any(isinstance(module, ChannelQuantizer) for module in network.modules()):
        return ("activations with types of single channels keep the bits of the full model",)
    return ()


def _apply(network: fx.GraphModule, variant: Variant) -> None:
    """What a variant changes: types of quantisers, and half an LSB of them in the bias before."""
    for name, fixed in variant.quantisers.items():
        quantiser = network.get_submodule(name)
        assert isinstance(quantiser, FixedQuantizer)
        quantiser.fixed = fixed
    for name, state in variant.layers.items():
        layer = network.get_submodule(name)
        assert isinstance(layer.bias, nn.Parameter) and state.bias is not None
        with torch.no_grad():
            layer.bias.copy_(state.bias)


def put_decision_head(network: fx.GraphModule, score: Score, rule: SoftAccept, name: str) -> None:
    """Replace the last layer by one with a single output that starts as ``(full score - threshold) / scale``.

    Of a difference of largest logits it starts with the difference of their means.
    """
    (output,) = (node for node in network.graph.nodes if node.op == "output")
    source = output.args[0]
    layer = module_of(network, source) if isinstance(source, fx.Node) else None
    if score.kind not in ("head", "difference") or not isinstance(layer, QuantLinear):
        raise ConfigError(
            f"light model {name!r}: kind pruned with difficulty learned needs a full model whose score is an output of "
            f"a last linear layer, or a difference of such outputs; this score is a {score.kind}",
            hint="use kind: tiny with difficulty: learned",
        )
    outputs = torch.zeros(layer.out_features)
    if score.kind == "head":
        outputs[0] = 1.0
    else:
        outputs[list(score.signal_outputs)] = 1.0 / len(score.signal_outputs)
        outputs[list(score.background_outputs)] = -1.0 / len(score.background_outputs)
    scale = rule.scale or 1.0
    single = nn.Linear(layer.in_features, 1)
    with torch.no_grad():
        kept = layer.weight * layer.weight_mask
        single.weight.copy_((outputs @ kept)[None] / scale)
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
        single.bias.copy_((outputs @ bias - rule.threshold) / scale)
    network.set_submodule(str(source.target), QuantLinear(single, layer.weight_type, layer.bias_type))

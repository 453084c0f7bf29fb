"""Points of the full scan against the plain loop: prune, evaluate every event, restore."""

import copy

import numpy as np
import pytest
import torch
from scan_networks import INPUT, SHAPES, Bits, Branched, events, float_model, network, snapshot, traced, with_masks
from torch import Tensor

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.errors import DataError, ModelError
from trigger_prune.importance import criterion_by_name
from trigger_prune.importance._base import CriterionData
from trigger_prune.importance.group_scores import score_groups
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.physics.scores import Score, class_score
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.quantize.ranges import best_type
from trigger_prune.sensitivity.points import scan_points
from trigger_prune.sensitivity.precision import activation_variants
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.target import Target
from trigger_prune.train.evaluate import Batches, evaluate, predict
from trigger_prune.train.objective import Objective

L1 = criterion_by_name("magnitude_l1")
RANDOM = criterion_by_name("random")
TAYLOR = criterion_by_name("taylor_fisher", with_data=True)


def lowest_mask(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """One weight after the other, the lowest score first."""
    flat = mask.flatten().tolist()
    while flat.count(0) < round(sparsity * len(flat)):
        kept = [i for i, m in enumerate(flat) if m]
        flat[min(kept, key=lambda i: (float(scores.detach().flatten()[i]), i))] = 0
    return torch.tensor(flat).reshape(mask.shape)


def plain_figures(model, batches: Batches, fraction: float = 0.01) -> dict[str, float]:
    """All figures of a classifier by the functions that judge single networks."""
    found = evaluate(model, batches, "classify")
    logits = predict(model, batches.features)
    labels, weights = batches.classes.numpy(), batches.physical.numpy()
    auc = evaluate(model, batches, "classify", Objective("auc")).merit
    efficiency = np.mean(
        [
            signal_efficiency_at(roc_curve(class_score(logits, c), labels == c, weights), fraction)
            for c in range(logits.shape[1])
        ]
    )
    return {"loss": found.loss, "accuracy": found.accuracy, "auc": auc, "efficiency": efficiency}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(SHAPES))
def test_single_weights_by_two_criteria_equal_the_plain_loop_in_every_figure(kind, dtype):
    model, batches = network(kind, dtype=dtype), events(kind, 300, dtype=dtype)
    data = CriterionData(events(kind, 100, 7, dtype), "classify")
    sparsities = (0.0, 0.3, 0.8, 1.0)
    settings = ScanSettings(sparsities=sparsities, background_fraction=0.1)
    found = scan_points(model, batches, [L1, TAYLOR], "classify", settings=settings, criterion_data=data)
    base = plain_figures(model, batches, 0.1)
    assert {name: figure.value for name, figure in found.baseline.items()} == pytest.approx(base, rel=1e-5)
    expected = []
    for name, layer in prunable_layers(model).items():
        for criterion in (L1, TAYLOR):
            scores = criterion.score(model, [name], data)[name]
            for sparsity in sparsities:
                if round(sparsity * layer.weight.numel()) >= int((layer.weight_mask == 0).sum()):
                    expected.append((name, criterion.name, sparsity, lowest_mask(scores, layer.weight_mask, sparsity)))
    assert [(p.layer, p.criterion, p.sparsity) for p in found.points] == [entry[:3] for entry in expected]
    rel = 1e-5 if dtype == torch.float32 else 1e-10
    for point, (name, _, _, mask) in zip(found.points, expected, strict=True):
        truth = plain_figures(with_masks(model, {name: mask}), batches, 0.1)
        assert {key: figure.value for key, figure in point.figures.items()} == pytest.approx(truth, rel=rel)
        for key, figure in point.figures.items():
            assert figure.change == pytest.approx(truth[key] - base[key], abs=2e-5 if rel == 1e-5 else 1e-10)
            assert figure.low <= figure.value <= figure.high
            assert figure.change_low <= figure.change <= figure.change_high
        assert (point.zero_weights, point.merit) == (float((mask == 0).double().mean()), -point.figures["loss"].value)
        assert point.structure == "weight" and point.events == 300
    assert len({point.figures["loss"].value for point in found.points}) > len(found.points) / 2


@pytest.mark.parametrize("structure", ["neuron", "block", "n_m", "input", "layer", "filter"])
def test_structures_equal_the_plain_loop(structure):
    kind = {"filter": "conv2d", "layer": "residual"}.get(structure, "mlp")
    model, batches = network(kind, 2, torch.float64), events(kind, 200, 2, torch.float64)
    for layer in prunable_layers(model).values():
        layer.weight_mask.fill_(1.0)
    sparsities = (0.25, 0.5)
    settings = ScanSettings(structures=(structure,), sparsities=sparsities, figures=("loss",))
    found = scan_points(model, batches, [L1], "classify", settings=settings).points
    groups = structure_by_name(structure).groups(model)
    scores = score_groups(L1, model, groups)
    homes = groups.home()
    seen = 0
    for point in found:
        members = [g for g in range(groups.count) if homes[g] == point.layer]
        wanted = round(point.sparsity * len(members))
        pruned = copy.deepcopy(model).eval()
        in_cell: dict[int, int] = {}
        for g in sorted(members, key=lambda g: (float(scores[g]), g)):
            cell = g if groups.cells is None else int(groups.cells[g])
            limit = groups.removable_per_cell
            limit = 1 if limit is None else int(limit[cell]) if isinstance(limit, Tensor) else limit
            if wanted and in_cell.get(cell, 0) < limit:
                in_cell[cell] = in_cell.get(cell, 0) + 1
                wanted -= 1
                for name, ids in groups.ids.items():
                    pruned.get_submodule(name).weight_mask[ids == g] = 0
        assert wanted == 0
        assert point.figures["loss"].value == pytest.approx(evaluate(pruned, batches, "classify").loss, rel=1e-10)
        seen += 1
    if structure == "layer":
        assert [(point.layer, point.sparsity) for point in found] == [(name, 1.0) for name in homes]
    elif structure == "n_m":  # of rows of seven two of four and one of three can go: no half
        assert seen == 2 * len(set(homes)) - 1
    else:
        assert seen == 2 * len(set(homes))


@pytest.mark.parametrize("kind", ["mlp", "conv2d", "residual"])
def test_other_bits_are_those_the_network_would_have_been_quantised_to(kind):
    calibration, batches = events(kind, 300, 60).features, events(kind, 200)
    data = CriterionData(Batches(calibration, *events(kind, 300, 60)._tensors()[1:]), "classify")

    def quantised(weights: int, activations: int):
        return quantize_model(float_model(kind), calibration, INPUT, Bits(weights, activations)).eval()

    model = quantised(5, 6)
    settings = ScanSettings(sparsities=(), bits=(3, 5, 7), activation_bits=(3, 6), figures=("loss",))
    found = scan_points(model, batches, [L1], "classify", settings=settings, criterion_data=data).points
    by_weights = {(p.layer, p.weight_bits): p.figures["loss"].value for p in found if p.weight_bits}
    assert list(by_weights) == [(name, bits) for name in prunable_layers(model) for bits in (3, 5, 7)]
    for (name, bits), loss in by_weights.items():
        other, twin = copy.deepcopy(model), quantised(bits, 6).get_submodule(name)
        other.set_submodule(name, twin)
        assert loss == pytest.approx(evaluate(other, batches, "classify").loss, rel=1e-6)
        assert (bits == 5) == (loss == pytest.approx(evaluate(model, batches, "classify").loss, rel=1e-7))
    by_activations = {(p.layer, p.activation_bits): p.figures["loss"].value for p in found if p.activation_bits}
    quantisers = [name for name, module in model.named_modules() if isinstance(module, FixedQuantizer)]
    assert len(by_activations) == 2 * len(quantisers)
    for (name, bits), loss in by_activations.items():
        other = copy.deepcopy(model)
        quantiser = f"{_relu_of(model, name)}_quant" if name in weight_layers(model) else name
        present = model.get_submodule(quantiser).fixed
        seen: list[Tensor] = []
        hook = model.get_submodule(quantiser).register_forward_pre_hook(lambda _, args, to=seen: to.append(args[0]))
        with torch.no_grad():
            model(calibration)
        hook.remove()
        values = seen[0].double().numpy()
        fixed = present  # as many bits as there are: as it is
        if bits != 6:
            fixed = best_type(values, max(bits, 1 + present.signed), signed=present.signed, rounding=present.rounding)
        other.get_submodule(quantiser).fixed = fixed
        if name in weight_layers(model):  # the half LSB that truncation loses is in the bias
            other.get_submodule(name).bias.data += (fixed.lsb - present.lsb) / 2
        assert loss == pytest.approx(evaluate(other, batches, "classify").loss, rel=1e-6)


def test_activation_bits_of_a_fresh_network_are_those_it_would_have_been_quantised_to():
    """The reference quantiser places binary points by the float network, so only the first wire is comparable."""
    calibration = events("mlp", 300, 60).features
    for bits in (2, 3, 4, 8):
        model, truth = (quantize_model(float_model("mlp"), calibration, INPUT, Bits(16, b)) for b in (6, bits))
        variants = {name: variant for name, _, variant in activation_variants(model, (bits,), calibration)}
        first = truth.get_submodule("dense1")
        assert variants["dense1"].quantisers == {"relu1_quant": truth.get_submodule("relu1_quant").fixed}
        state = variants["dense1"].layers["dense1"]
        assert torch.allclose(state.bias, first.quantized_bias(), rtol=0, atol=first.bias_type.lsb)


def _relu_of(model, name: str) -> str:
    (node,) = [node for node in model.graph.nodes if node.target == name]
    (relu,) = node.users
    return str(relu.target) if isinstance(model.get_submodule(str(relu.target)), torch.nn.ReLU) else str(node.target)


def test_bits_come_with_every_mask():
    model, batches = network("mlp", 4), events("mlp", 100, 4)
    settings = ScanSettings(sparsities=(0.5, 0.9), bits=(3,), figures=("loss",))
    points = scan_points(model, batches, [L1, RANDOM], "classify", settings=settings).points
    layers = list(prunable_layers(model))
    combinations = [
        (n, c, b, s) for n in layers for c in ("magnitude_l1", "random") for s in (0.5, 0.9) for b in (None, 3)
    ]
    assert [(p.layer, p.criterion, p.weight_bits, p.sparsity) for p in points if p.criterion] == combinations
    assert [(p.layer, p.weight_bits) for p in points if not p.criterion] == [(n, 3) for n in layers]


def test_binary_task_with_a_rate_and_weights_of_its_own():
    model, batches = network("mlp", 0, torch.float64), events("mlp", 500, 3, torch.float64)
    head = model.get_submodule("head")
    with torch.no_grad():
        head.weight_mask[1:] = 0
        head.bias[1:] = 0.0

    class OneOutput(torch.nn.Module):
        pass

    node = next(node for node in model.graph.nodes if node.op == "output")
    with model.graph.inserting_before(node):
        first = model.graph.call_function(torch.narrow, (node.args[0], 1, 0, 1))
    node.args = (first,)
    model.recompile()
    y = (batches.classes > 0).long()
    batches = Batches(batches.features, y.double(), batches.weights, y, batches.physical)
    objective = Objective("efficiency_at_rate", Score("head"), (1,), 0.05)
    settings = ScanSettings(sparsities=(0.5, 0.9))
    found = scan_points(model, batches, [RANDOM], "binary", objective=objective, settings=settings)
    assert found.baseline_merit == pytest.approx(evaluate(model, batches, "binary", objective).merit, rel=1e-10)
    assert list(found.baseline) == ["loss", "accuracy", "auc", "efficiency"]
    for point in found.points:
        layer = model.get_submodule(point.layer)
        scores = RANDOM.score(model, [point.layer])[point.layer]
        pruned = with_masks(model, {point.layer: lowest_mask(scores, layer.weight_mask, point.sparsity)})
        truth = evaluate(pruned, batches, "binary", objective)
        auc = evaluate(pruned, batches, "binary", Objective("auc", Score("head"), (1,))).merit
        assert (point.merit, point.figures["accuracy"].value) == pytest.approx((truth.merit, truth.accuracy), rel=1e-10)
        assert point.figures["auc"].value == pytest.approx(auc, rel=1e-10)


def test_an_autoencoder_is_judged_by_loss_and_by_its_reconstruction():
    model = network("mlp", 0, torch.float64)
    x = events("mlp", 200, 3, torch.float64).features
    targets = x[:, :3].clone()
    classes = (x[:, 6] > 0.5).long()
    batches = Batches(x, targets, torch.ones(200), classes, torch.ones(200, dtype=torch.float64))
    objective = Objective("auc", Score("reconstruction"), (1,))
    found = scan_points(
        model, batches, [L1], "autoencoder", objective=objective, settings=ScanSettings(sparsities=(0.7,))
    )
    assert list(found.baseline) == ["loss", "auc", "efficiency"]
    for point in found.points:
        layer = model.get_submodule(point.layer)
        pruned = with_masks(model, {point.layer: lowest_mask(layer.weight.abs(), layer.weight_mask, 0.7)})
        truth = evaluate(pruned, batches, "autoencoder", objective)
        assert (point.figures["loss"].value, point.merit) == pytest.approx((truth.loss, truth.merit), rel=1e-10)
    plain = scan_points(model, batches, [L1], "autoencoder", settings=ScanSettings(sparsities=(0.7,)))
    assert list(plain.baseline) == ["loss"]


def test_network_is_restored_bit_for_bit_whatever_stops_the_scan():
    model = traced(Branched())
    model.train()
    model.phi.eval()
    model.head.weight_mask[0, 3] = 0
    x = torch.randn(60, 3, 4, generator=torch.Generator().manual_seed(1))
    batches = Batches(x, torch.arange(60) % 3, torch.ones(60))
    before = snapshot(model)

    class Meddling:
        name = "meddling"

        def score(self, network, names, data=None):
            network.eval()
            for layer in prunable_layers(network).values():
                layer.weight_mask.zero_()
                layer.weight.data.mul_(3.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_points(model, batches, [Meddling()], "classify")
    assert snapshot(model) == before
    scan_points(model, batches, [L1, RANDOM], "classify", settings=ScanSettings(bits=(3,)))
    assert snapshot(model) == before


def test_network_is_restored_when_stopped_between_two_networks():
    model, batches = network("residual"), events("residual", 60)
    model.train()
    before = snapshot(model)
    done: list[int] = []

    def stop(part: int, _total: int) -> None:
        done.append(part)
        if len(done) == 2:
            raise KeyboardInterrupt

    settings = ScanSettings(structures=("weight", "neuron"), sparsities=(0.3, 0.6), bits=(3,), target=Target())
    with pytest.raises(KeyboardInterrupt):
        scan_points(model, batches, [L1, RANDOM], "classify", settings=settings, progress=stop)
    assert snapshot(model) == before and len(done) == 2
    scan_points(model, batches, [L1, RANDOM], "classify", settings=settings)
    assert snapshot(model) == before


def test_costs_are_those_of_the_masked_network_and_slopes_their_differences():
    model, batches = network("mlp", 1), events("mlp", 50)
    target = Target(clock_period_ns=4.0)
    settings = ScanSettings(sparsities=(0.4, 0.9), bits=(3,), activation_bits=(3,), figures=("loss",), target=target)
    points = scan_points(model, batches, [L1], "classify", settings=settings).points
    whole = AnalyticCost().measure(model, target)
    for point in points:
        assert point.latency_ns % 4.0 == 0
        if point.criterion is None or point.weight_bits is not None:
            assert point.lut != whole.lut
            continue
        layer = model.get_submodule(point.layer)
        mask = lowest_mask(layer.weight.abs(), layer.weight_mask, point.sparsity)
        truth = AnalyticCost().measure(with_masks(model, {point.layer: mask}), target)
        assert (point.lut, point.latency_ns) == (truth.lut, truth.latency_cycles * 4.0)
        own = [p for p in points if p.curve == point.curve]
        if point.sparsity == 0.4:
            step = 100 * (0.4 - float((layer.weight_mask == 0).double().mean()))
            assert point.lut_per_percent == pytest.approx((whole.lut - point.lut) / step)
        else:
            assert point.lut_per_percent == pytest.approx((own[0].lut - own[1].lut) / 50)


def test_impossible_scans_are_named():
    model, batches = network("mlp"), events("mlp", 50)
    with pytest.raises(ModelError, match=r"sparsity 1\.5"):
        scan_points(model, batches, [L1], "classify", settings=ScanSettings(sparsities=(1.5,)))
    with pytest.raises(DataError, match="figure 'auc' cannot be had"):
        plain = Batches(batches.features, batches.features[:, :3], batches.weights)
        scan_points(model, plain, [L1], "autoencoder", settings=ScanSettings(figures=("auc",)))
    with pytest.raises(ModelError, match="no weight above zero"):
        scan_points(model, Batches(batches.features, batches.targets, torch.zeros(50)), [L1], "classify")
    with pytest.raises(ModelError, match="accuracy: the task"):
        scan_points(model, plain, [L1], "autoencoder", objective=Objective("accuracy"))
    with pytest.raises(DataError, match="never reached"):
        ScanSettings(interval_width=0.0)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ModelError, match="no weight layer to prune"):
        scan_points(model, batches, [L1], "classify")

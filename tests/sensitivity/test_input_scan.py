import copy
import math

import numpy as np
import pytest
import torch
from scan_networks import events as scan_events
from scan_networks import network as quantised
from torch import Tensor, fx, nn

from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import criterion_by_name
from trigger_prune.quantize.layers import QuantLinear
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.inputs import RedundantInput, find_redundant_inputs, scan_inputs
from trigger_prune.sensitivity.scan import scan
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.train.evaluate import Batches, evaluate


def grid_features(n: int = 400) -> np.ndarray:
    x = np.random.default_rng(0).integers(-8, 8, size=(n, 6)) / 4
    x[:, 3] = x[:, 1]
    x[:, 4] = -0.5
    return np.concatenate([x, x[:, [1]], np.full((n, 1), -0.5)], axis=1).astype(np.float32)


TRUTH = [
    RedundantInput(3, "duplicate", 1, None),
    RedundantInput(4, "constant", None, -0.5),
    RedundantInput(6, "duplicate", 1, None),
    RedundantInput(7, "constant", None, -0.5),
]


def test_finds_copies_of_the_first_and_constants() -> None:
    assert find_redundant_inputs(grid_features()) == TRUTH


@pytest.mark.parametrize("row", [0, 137, 399])
def test_one_event_that_differs_makes_an_input_informative(row: int) -> None:
    x = grid_features()
    x[row, 6] += 0.25
    x[row, 4] += 0.25
    assert find_redundant_inputs(x) == [TRUTH[0], TRUTH[3]]


def test_agrees_with_comparing_every_pair() -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        x = rng.integers(0, 2, size=(4, 12)).astype(np.float32)  # few events: copies by chance
        expected = []
        for i in range(12):
            equal = [j for j in range(i) if (x[:, j] == x[:, i]).all()]
            if len(set(x[:, i])) == 1:
                expected.append((i, "constant", None))
            elif equal:
                expected.append((i, "duplicate", equal[0]))
        assert [(f.index, f.kind, f.same_as) for f in find_redundant_inputs(x)] == expected


def test_a_plane_of_positions_is_compared_as_a_whole() -> None:
    x = np.random.default_rng(1).integers(0, 4, size=(50, 4, 3)).astype(np.float32)
    x[:, 1] = x[:, 0]
    x[:, 2] = x[:, 0, ::-1]  # the same values at other positions are another input
    x[:, 3] = [1.0, 2.0, 3.0]  # constant in time, but not one value
    assert find_redundant_inputs(x) == [RedundantInput(1, "duplicate", 0, None)]


def test_negative_zero_equals_zero() -> None:
    x = np.array([[0.0, -0.0, 0.0], [1.0, 1.0, -0.0]], dtype=np.float32)
    assert find_redundant_inputs(x) == [
        RedundantInput(1, "duplicate", 0, None),
        RedundantInput(2, "constant", None, 0.0),
    ]
    assert math.copysign(1.0, find_redundant_inputs(-x)[1].constant) == 1.0


def test_unusable_features_are_named() -> None:
    x = grid_features()
    x[7, 2] = np.nan
    with pytest.raises(DataError, match="input 2 holds NaN in row 7"):
        find_redundant_inputs(x)
    with pytest.raises(DataError, match="no events"):
        find_redundant_inputs(x[:0])


class SignOfFirst(nn.Module):
    """Decides by the sign of input 0 summed over positions, with logits +-2; ignores the others."""

    def forward(self, x: Tensor) -> Tensor:
        sign = x[:, 0].flatten(1).sum(dim=1, keepdim=True).sign()
        return torch.cat([sign, -sign], dim=1)


def sign_events(n: int, positions: int) -> Batches:
    x = torch.randn(n, 3, positions, generator=torch.Generator().manual_seed(3))
    return Batches(x, (x[:, 0].sum(dim=1) < 0).long(), torch.ones(n))


@pytest.mark.parametrize("positions", [1, 5])
def test_shuffling_a_deciding_input_costs_what_guessing_costs(positions: int) -> None:
    batches = sign_events(20_000, positions)
    found = scan_inputs(SignOfFirst(), batches, ["a", "b", "c"], [], "classify")
    # a perfect decision becomes a coin flip between two balanced classes: the wrong half loses 2 in the logit gap
    assert found[0].accuracy_drop == pytest.approx(0.5, abs=0.015)
    assert found[0].loss_increase == pytest.approx(2 * 0.5, abs=0.03)
    for other in found[1:]:
        assert (other.loss_increase, other.accuracy_drop) == (0.0, 0.0)


def test_shuffling_moves_whole_events() -> None:
    positions = 4
    seen: list[Tensor] = []

    class Watch(SignOfFirst):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return super().forward(x)

    batches = sign_events(60, positions)
    before = batches.features.clone()
    scan_inputs(Watch(), batches, ["a", "b", "c"], [], "classify", seed=4)
    assert torch.equal(batches.features, before)
    for index, shuffled in enumerate(seen[1:]):
        others = [i for i in range(3) if i != index]
        assert torch.equal(shuffled[:, others], before[:, others])
        assert not torch.equal(shuffled[:, index], before[:, index])
        rows = sorted(tuple(row) for row in shuffled[:, index].tolist())
        assert rows == sorted(tuple(row) for row in before[:, index].tolist())


def test_an_autoencoder_still_has_to_reconstruct_the_true_values() -> None:
    x = torch.randn(5000, 2, generator=torch.Generator().manual_seed(3))
    found = scan_inputs(nn.Identity(), Batches(x, x, torch.ones(5000)), ["a", "b"], [], "autoencoder")
    # two independent draws of unit variance differ by 2 in the mean square, averaged over two inputs
    assert found[0].loss_increase == pytest.approx(1.0, abs=0.06)
    assert found[0].accuracy_drop is None


def test_names_must_fit() -> None:
    with pytest.raises(DataError, match="2 feature names for 3"):
        scan_inputs(SignOfFirst(), sign_events(5, 1), ["a", "b"], [], "classify")


def test_whole_scan_puts_names_baseline_and_layers_together() -> None:
    torch.manual_seed(0)
    fixed = FixedPoint(6, 1)

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    model = nn.Sequential(
        QuantLinear(nn.Linear(8, 5), fixed, fixed), nn.ReLU(), QuantLinear(nn.Linear(5, 2), fixed, fixed)
    )
    network = fx.GraphModule(model, Tracer().trace(model))
    x = grid_features()
    batches = Batches(torch.from_numpy(x), (torch.from_numpy(x)[:, 0] > 0).long(), torch.ones(len(x)))
    names = [f"f{i}" for i in range(8)]
    seen: list[tuple[str, int, int]] = []
    arguments = (network, x, batches, names, [0.5, 0.9], criterion_by_name("magnitude_l1"), "classify")
    result = scan(*arguments, seed=2, progress=lambda *step: seen.append(step))
    assert result.baseline_loss == pytest.approx(evaluate(network, batches, "classify").loss, rel=1e-6)
    assert result.events == 400
    assert [(p.layer, p.sparsity) for p in result.layers] == [("0", 0.5), ("0", 0.9), ("2", 0.5), ("2", 0.9)]
    assert [(f.name, f.same_as) for f in result.inputs if f.kind == "duplicate"] == [("f3", "f1"), ("f6", "f1")]
    assert [(f.name, f.constant_value, f.loss_increase) for f in result.inputs if f.kind == "constant"] == [
        ("f4", -0.5, 0.0),
        ("f7", -0.5, 0.0),
    ]
    assert seen[0][0] == "layers" and seen[-1] == ("inputs", 8, 8)
    assert scan(*arguments, seed=2) == result
    assert SensitivityScan.from_dict(result.to_dict()) == result


def test_figures_of_every_input_are_those_of_the_network_with_that_input_shuffled_or_zero() -> None:
    model, batches = quantised("conv1d", dtype=torch.float64), scan_events("conv1d", 200, dtype=torch.float64)
    names, redundant = ["a", "b", "c"], find_redundant_inputs(batches.features.numpy())
    plain = scan_inputs(copy.deepcopy(model), batches, names, redundant, "classify", seed=3)
    found = scan_inputs(model, batches, names, redundant, "classify", seed=3, settings=ScanSettings(interval_width=1.0))
    baseline = evaluate(model, batches, "classify")
    for finding, truth in zip(found, plain, strict=True):
        assert (finding.name, finding.kind) == (truth.name, truth.kind)
        assert finding.loss_increase == pytest.approx(truth.loss_increase, rel=1e-9)
        assert finding.accuracy_drop == pytest.approx(truth.accuracy_drop, abs=1e-12)
        assert finding.merit_drop == pytest.approx(truth.merit_drop, rel=1e-9)
        assert finding.shuffled["loss"].change == finding.loss_increase
        removed = batches.features.clone()
        removed[:, finding.index] = 0.0
        without = evaluate(model, batches.with_features(removed), "classify")
        assert finding.removed["loss"].change == pytest.approx(without.loss - baseline.loss, rel=1e-9)
        assert finding.removed["accuracy"].value == pytest.approx(without.accuracy, rel=1e-12)
        assert finding.removed["auc"].change_low < finding.removed["auc"].change < finding.removed["auc"].change_high
    assert len({finding.loss_increase for finding in found}) == 3

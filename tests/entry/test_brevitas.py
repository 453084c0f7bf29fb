"""Brevitas models: the network has the bits that Brevitas computes."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trigger_prune.entry.brevitas_model import brevitas_to_qonnx, is_brevitas, read_brevitas
from trigger_prune.errors import ExportError, ModelError, UnsupportedLayerError
from trigger_prune.verify.representations import torch_outputs

INSTALLED = importlib.util.find_spec("brevitas") is not None and importlib.util.find_spec("onnxoptimizer") is not None
needs_brevitas = pytest.mark.skipif(not INSTALLED, reason="Brevitas is not installed (extra brevitas)")


def options() -> dict[str, Any]:
    """Quantisers with power-of-two scales."""
    from brevitas.quant import (
        Int8ActPerTensorFixedPoint,
        Int8BiasPerTensorFixedPointInternalScaling,
        Int8WeightPerTensorFixedPoint,
        Uint8ActPerTensorFixedPoint,
    )

    return {
        "signed": Int8ActPerTensorFixedPoint,
        "unsigned": Uint8ActPerTensorFixedPoint,
        "weight": Int8WeightPerTensorFixedPoint,
        "bias": Int8BiasPerTensorFixedPointInternalScaling,
    }


def mlp(bias: bool) -> tuple[nn.Module, tuple[int, ...]]:
    import brevitas.nn as qnn

    q = options()
    kept: dict[str, Any] = {"return_quant_tensor": True}
    return nn.Sequential(
        qnn.QuantIdentity(act_quant=q["signed"], bit_width=8, **kept),
        qnn.QuantLinear(
            16,
            12,
            bias=True,
            weight_quant=q["weight"],
            weight_bit_width=6,
            bias_quant=q["bias"] if bias else None,
            **kept,
        ),
        qnn.QuantReLU(act_quant=q["unsigned"], bit_width=6, **kept),
        qnn.QuantLinear(
            12, 5, bias=bias, weight_quant=q["weight"], weight_bit_width=4, bias_quant=q["bias"] if bias else None
        ),
    ), (16,)


def conv(axes: int) -> tuple[nn.Module, tuple[int, ...]]:
    import brevitas.nn as qnn

    q = options()
    kept: dict[str, Any] = {"return_quant_tensor": True}
    kind = (qnn.QuantConv1d, qnn.QuantConv2d)[axes - 1]
    pool = (nn.MaxPool1d, nn.MaxPool2d)[axes - 1]
    return nn.Sequential(
        qnn.QuantIdentity(act_quant=q["signed"], bit_width=7, **kept),
        kind(2, 4, 3, bias=True, padding=1, weight_quant=q["weight"], weight_bit_width=5, **kept),
        qnn.QuantReLU(act_quant=q["unsigned"], bit_width=5, **kept),
        pool(2),
        nn.Flatten(),
        qnn.QuantLinear(4 * 3**axes, 3, bias=False, weight_quant=q["weight"], weight_bit_width=5),
    ), (2, *[6] * axes)


def trained(model: nn.Module, shape: tuple[int, ...], outputs: int) -> np.ndarray:
    """Trains a little, so that scales and biases are arbitrary; returns 2 000 events."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        logits = model(torch.randn(64, *shape) * 2)
        loss = nn.functional.cross_entropy(getattr(logits, "value", logits), torch.randint(outputs, (64,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    return np.random.default_rng(0).normal(size=(2000, *shape)).astype(np.float32) * 2


@needs_brevitas
@pytest.mark.parametrize("case", ["mlp", "mlp with quantised biases", "conv1d", "conv2d"])
def test_a_trained_model_keeps_every_bit(case: str) -> None:
    torch.manual_seed(1)
    model, shape = conv(int(case[4])) if case.startswith("conv") else mlp("biases" in case)
    x = trained(model, shape, 3 if case.startswith("conv") else 5)
    with torch.no_grad():
        found = model(torch.from_numpy(x))
    expected = getattr(found, "value", found).numpy().astype(np.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    entered = read_brevitas(model, shape)
    assert entered.exact and entered.kind == "brevitas"
    events = entered.input_type.quantize(x).astype(np.float32)
    np.testing.assert_array_equal(torch_outputs(entered.network, events, double=True), expected)
    assert np.ptp(expected, axis=0).min() > 0.5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@needs_brevitas
def test_the_default_scales_are_refused_with_the_remedy_and_replaced_on_request() -> None:
    import brevitas.nn as qnn

    torch.manual_seed(1)
    model = nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantLinear(16, 5, bias=False, weight_bit_width=6),
        qnn.QuantReLU(bit_width=6),
    )
    x = trained(model, (16,), 5)
    with pytest.raises(UnsupportedLayerError, match="no power of two") as caught:
        read_brevitas(model, (16,))
    assert "restrict_scaling_type=RestrictValueType.POWER_OF_TWO" in str(caught.value)
    entered = read_brevitas(model, (16,), nearest_power_of_two=True)
    assert not entered.exact and len(entered.notes) == 3
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    got = torch_outputs(entered.network, entered.input_type.quantize(x).astype(np.float32), double=True)
    assert 0 < np.abs(got - expected).mean() < 0.05 * expected.max()


@needs_brevitas
def test_what_brevitas_cannot_export_is_said_so() -> None:
    model, _ = mlp(False)
    with pytest.raises(ExportError, match="Brevitas cannot export Sequential"):
        brevitas_to_qonnx(model.eval(), (7,))


def test_a_plain_model_is_none_of_brevitas() -> None:
    assert not is_brevitas(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="no layer of Brevitas") as caught:
        brevitas_to_qonnx(nn.Linear(2, 2), (2,))
    assert "quantize_model" in str(caught.value)


@pytest.mark.skipif(INSTALLED, reason="Brevitas is installed")
def test_a_missing_brevitas_names_the_extra() -> None:
    model = nn.Sequential(type("QuantLinear", (nn.Linear,), {"__module__": "brevitas.nn.quant_linear"})(2, 2))
    assert is_brevitas(model)
    with pytest.raises(ModelError, match="cannot be imported") as caught:
        brevitas_to_qonnx(model, (2,))
    assert "trigger_prune[brevitas]" in str(caught.value)

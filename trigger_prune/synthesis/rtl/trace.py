"""From a frozen network to alkaid's adder graph ("comb"), and its bit-exact interpreter.

alkaid (calad0i, LGPL-3.0; successor of da4ml, arXiv:2507.04535) turns constant matrix products into shared
shift-and-add trees. Two of its defaults are not used here:

* ``canonicalize_msb_wraps``, a clean-up pass of version 0.8.2, reads the wrong bit behind a one-bit activation, in the
  interpreter and in the Verilog. It is replaced by the identity while a network is traced; the cost does not change.
* ternary adders are not fused (see ``verilog.py``), because Yosys cannot map them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from trigger_prune.errors import CostError, ToolError, TriggerPruneError, UnsupportedLayerError, VerificationError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.layers import layer_costs
from trigger_prune.synthesis.rtl.replay import register, to_kif

HARD_DC = 2
"""Largest extra adder depth that alkaid may spend on sharing, per matrix product."""

_PATCH_LOCK = threading.Lock()


def alkaid_version() -> str:
    """Installed version. Raises ToolError when alkaid is not installed."""
    try:
        import alkaid  # noqa: F401
    except ImportError as error:
        raise ToolError(
            f"alkaid, which turns the network into Verilog, cannot be imported: {error}",
            hint="pip install 'trigger_prune[rtl]'",
        ) from None
    return version("alkaid")


@contextmanager
def without_msb_wrap_pass() -> Iterator[None]:
    """Replace the faulty pass by the identity, and put it back.

    Raises ToolError when this alkaid has no such pass, or no longer calls it by that name.
    """
    found = alkaid_version()
    from alkaid.trace.passes import canon

    name = "canonicalize_msb_wraps"
    if not hasattr(canon, name) or name not in canon.canonicalize.__code__.co_names:
        raise ToolError(
            f"alkaid {found} has no pass {name} to switch off",
            hint="install alkaid==0.8.2, or check that the one-bit activations are right in this version",
        )
    with _PATCH_LOCK:
        original = getattr(canon, name)
        setattr(canon, name, lambda comb: comb)
        try:
            yield
        finally:
            setattr(canon, name, original)


def trace_network(frozen: nn.Module, input_type: FixedPoint, input_shape: tuple[int, ...]) -> Any:
    """alkaid ``CombLogic`` of a network of plain layers whose weights are on their grids.

    ``frozen`` holds nn.Linear, nn.Conv1d/2d, FixedQuantizer, nn.ReLU, pools, nn.Flatten, additions and
    concatenations, and is traced with one batch axis in front of ``input_shape``. The outputs are flattened.

    Raises UnsupportedLayerError for a layer or a type that alkaid cannot express, CostError when tracing fails,
    ToolError when alkaid is missing.
    """
    return trace_layers(frozen, input_type, input_shape)[0]


def trace_layers(
    frozen: nn.Module, input_type: FixedPoint, input_shape: tuple[int, ...]
) -> tuple[Any, dict[str, float]]:
    """``trace_network``, and what each weight layer adds to alkaid's cost of the adder graph (``layer_costs``)."""
    with without_msb_wrap_pass():
        from alkaid.converter import trace_model
        from alkaid.trace import FVArray, HWConfig, trace

        register()
        hardware = HWConfig(1, -1, -1)
        options = {"hard_dc": HARD_DC, "offload_fn": _weights_to_multiply_directly}
        precisions = [np.full((1, *input_shape), bits, dtype=np.int8) for bits in to_kif(input_type)]
        inputs = FVArray.from_kif(*precisions, hardware, 0, options)
        was_training = frozen.training
        frozen.eval()
        try:
            values = trace_model(frozen, hardware, options, inputs=(inputs,), framework="torch", dump=True)
            outputs = np.concatenate([np.ravel(final) for final in values["final"]])
            return trace(inputs, outputs), layer_costs(frozen, inputs, values, outputs)
        except TriggerPruneError:
            raise
        except (AssertionError, NotImplementedError) as error:
            raise UnsupportedLayerError(
                f"alkaid cannot express this network: {error or type(error).__name__}",
                hint="only linear and convolution layers, ReLU, quantisers, pools, flatten, add and cat become Verilog",
            ) from error
        except (ValueError, TypeError, RuntimeError, IndexError, KeyError, StopIteration) as error:
            raise CostError(f"alkaid failed on this network: {type(error).__name__}: {error}") from error
        finally:
            frozen.train(was_training)


def _weights_to_multiply_directly(weights: NDArray[Any], inputs: Any) -> NDArray[np.bool_]:
    """Which weights ``(in, out)`` alkaid 0.8.2 shall leave out of its sharing algorithm and multiply one by one.

    * Those of inputs that are constants: the algorithm stops with StopIteration when every input left is one, which
      dead neurons of a sparse network bring about. A constant times a constant costs nothing.
    * Those of inputs that are a lone sign bit (0 or -1): its look-up tables for one-bit inputs take them for 0 or 1.
    """
    direct = np.array([v.low == v.high or (v.low < 0 and sum(v.kif) == 1) for v in np.asarray(inputs).ravel()])
    return np.asarray(np.broadcast_to(direct[:, None], weights.shape) & (weights != 0), dtype=np.bool_)


def predict(comb: Any, x: ArrayLike, *, threads: int = 1) -> NDArray[np.float64]:
    """Outputs ``(n, n_outputs)`` of the adder graph, by alkaid's interpreter.

    ``x`` is ``(n, *input_shape)``, values on the input grid. Raises CostError when the number of features differs.
    """
    events = np.asarray(x, dtype=np.float64)
    flat = np.ascontiguousarray(events.reshape(len(events), math.prod(events.shape[1:])))
    n_in, n_out = comb.shape
    if flat.shape[1] != n_in:
        raise CostError(f"the traced network takes {n_in} inputs, the events have {flat.shape[1]}")
    if len(flat) == 0:
        return np.empty((0, n_out))
    return np.asarray(comb.predict(flat, n_threads=threads), dtype=np.float64).reshape(len(flat), n_out)


def probe_events(
    input_type: FixedPoint, input_shape: tuple[int, ...], *, n_random: int = 256, seed: int = 0
) -> NDArray[np.float64]:
    """Events ``(n, *input_shape)``: all lowest, all highest, zero, one LSB up and down, corners, then random ones."""
    rng = np.random.default_rng(seed)
    low, high = input_type.min_code, input_type.max_code
    constant = [np.full(input_shape, code) for code in (low, high, 0, 1, max(low, -1))]
    corners = rng.choice([low, high], size=(n_random // 4, *input_shape))
    uniform = rng.integers(low, high, size=(n_random, *input_shape), endpoint=True)
    return np.concatenate([np.stack(constant), corners, uniform]).astype(np.float64) * input_type.lsb


def check_trace(comb: Any, frozen: nn.Module, input_type: FixedPoint, input_shape: tuple[int, ...]) -> int:
    """Compare the adder graph with the network in float64 on ``probe_events``; returns how many events agreed (all).

    Raises VerificationError naming the first event and output that differ.
    """
    import copy

    import torch

    events = probe_events(input_type, input_shape)
    reference = copy.deepcopy(frozen).double().eval()
    with torch.no_grad():
        expected = reference(torch.from_numpy(events)).numpy().reshape(len(events), -1)
    got = predict(comb, events)
    if got.shape != expected.shape:
        raise VerificationError(f"alkaid gives {got.shape[1]} outputs, the network {expected.shape[1]}")
    wrong = np.argwhere(got != expected)
    if len(wrong):
        event, output = (int(v) for v in wrong[0])
        raise VerificationError(
            f"alkaid's adder graph differs from the network on {len(set(wrong[:, 0].tolist()))} of {len(events)} probe "
            f"events; first: event {event}, output {output}: {got[event, output]} instead of {expected[event, output]}",
            hint="the weights may be off their grid, or this alkaid version has a bug: trust neither cost nor Verilog",
        )
    return len(events)

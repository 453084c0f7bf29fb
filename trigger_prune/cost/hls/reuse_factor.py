"""Which reuse factors hls4ml accepts for a layer, by the rule hls4ml itself applies.

hls4ml 1.3.0 (``hls4ml.backends.fpga.fpga_backend``) silently replaces an invalid reuse factor by the closest valid one.
Here it is an error that names the valid ones, so that what is estimated is what is built.

* latency: every positive reuse factor; it only limits the number of multipliers.
* resource: the reuse factor divides n_in x n_out, and below n_in it divides n_in, from n_in on it is a multiple of it.
* resource_unrolled: as resource, without the largest one; 1 means resource (hls4ml changes the strategy itself), and so
  does every convolution in io_parallel.
* distributed_arithmetic: 1 only.

Source: ``FPGABackend._validate_reuse_factor`` and the ``init_dense`` / ``init_conv*`` optimisers of the Vivado backend.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from trigger_prune.cost.hls.design import HlsLayer, IoType, Strategy
from trigger_prune.errors import ConfigError

MULTIPLYING_KINDS = ("dense", "conv1d", "conv2d")
_SHOWN = 12
"""Reuse factors listed in an error; a 256 x 256 layer has 25 valid ones."""


def valid_reuse_factors(n_in: int, n_out: int) -> tuple[int, ...]:
    """Ascending reuse factors that strategy resource can build. ``n_in`` of a convolution is kernel x channels.

    Raises ConfigError for sizes that are not positive.
    """
    if n_in < 1 or n_out < 1:
        raise ConfigError(f"a layer of {n_in} inputs and {n_out} outputs has no reuse factor")
    total = n_in * n_out
    small = [factor for factor in range(1, math.isqrt(total) + 1) if total % factor == 0]
    divisors = sorted({*small, *(total // factor for factor in small)})
    return tuple(factor for factor in divisors if _is_valid(n_in, n_out, factor))


def _is_valid(n_in: int, n_out: int, factor: int) -> bool:
    if factor >= n_in:
        return factor % n_in == 0
    return -(-n_in * n_out // factor) % n_out == 0


def nearest_reuse_factor(valid: tuple[int, ...], chosen: int) -> int:
    """The one hls4ml would put in place of ``chosen``: the closest, of two equally close ones the smaller."""
    position = bisect_left(valid, chosen)
    if position == 0:
        return valid[0]
    if position == len(valid):
        return valid[-1]
    before, after = valid[position - 1], valid[position]
    return after if after - chosen < chosen - before else before


def effective_strategy(strategy: Strategy, reuse_factor: int, kind: str, io_type: IoType) -> Strategy:
    """The strategy hls4ml builds: resource_unrolled falls back to resource where it is not implemented."""
    if strategy != "resource_unrolled":
        return strategy
    convolution_in_parallel = kind in ("conv1d", "conv2d") and io_type == "io_parallel"
    return "resource" if reuse_factor == 1 or convolution_in_parallel else "resource_unrolled"


def multiplication_size(layer: HlsLayer) -> tuple[int, int]:
    """Inputs and outputs of the matrix product of one output position. Raises ConfigError where there is none."""
    if layer.kind not in MULTIPLYING_KINDS:
        raise ConfigError(f"layer {layer.name}: a {layer.kind} has no matrix product")
    return layer.n_in * math.prod(layer.kernel or (1,)), layer.n_out


def allowed_reuse_factors(n_in: int, n_out: int, strategy: Strategy) -> tuple[int, ...] | None:
    """Valid reuse factors of a strategy; None = every positive one."""
    if strategy == "latency":
        return None
    if strategy == "distributed_arithmetic":
        return (1,)
    valid = valid_reuse_factors(n_in, n_out)
    return valid[:-1] if strategy == "resource_unrolled" else valid


def check_reuse_factor(
    n_in: int, n_out: int, reuse_factor: int, strategy: Strategy = "resource", *, name: str = "layer"
) -> None:
    """Raises ConfigError, with the valid reuse factors, when hls4ml would replace ``reuse_factor`` by another one."""
    if reuse_factor < 1 or int(reuse_factor) != reuse_factor:
        raise ConfigError(f"{name}: reuse factor {reuse_factor} is not a positive integer")
    if strategy == "resource_unrolled" and reuse_factor == 1:
        strategy = "resource"
    valid = allowed_reuse_factors(n_in, n_out, strategy)
    if valid is None or reuse_factor in valid:
        return
    nearest = nearest_reuse_factor(valid, reuse_factor) if valid else 1
    raise ConfigError(
        f"{name}: reuse factor {reuse_factor} is not possible for {n_in} x {n_out} weights in strategy {strategy}; "
        f"valid: {_listed(valid, reuse_factor)}",
        hint=f"hls4ml would silently take {nearest}; set that one, or another of the list",
    )


def check_layer(layer: HlsLayer, io_type: IoType = "io_parallel") -> None:
    """``check_reuse_factor`` of a layer as hls4ml builds it; layers without a matrix product pass."""
    if layer.kind in MULTIPLYING_KINDS:
        strategy = effective_strategy(layer.strategy, layer.reuse_factor, layer.kind, io_type)
        check_reuse_factor(*multiplication_size(layer), layer.reuse_factor, strategy, name=f"layer {layer.name}")


def _listed(valid: tuple[int, ...], chosen: int) -> str:
    if len(valid) <= _SHOWN:
        return ", ".join(map(str, valid))
    start = min(max(bisect_left(valid, chosen) - _SHOWN // 2, 0), len(valid) - _SHOWN)
    shown = ", ".join(map(str, valid[start : start + _SHOWN]))
    return f"{'... ' if start else ''}{shown}{' ...' if start + _SHOWN < len(valid) else ''} ({len(valid)} in all)"

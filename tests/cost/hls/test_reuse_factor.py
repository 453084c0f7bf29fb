"""Reuse factors against hls4ml's own functions, and the messages of the errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trigger_prune.cost.hls.reuse_factor import (
    allowed_reuse_factors,
    check_reuse_factor,
    effective_strategy,
    nearest_reuse_factor,
    valid_reuse_factors,
)
from trigger_prune.errors import ConfigError


@pytest.fixture(scope="module")
def backend():
    from hls4ml.backends.fpga.fpga_backend import FPGABackend

    class Bare(FPGABackend):
        def __init__(self) -> None:
            pass

    Bare.__abstractmethods__ = frozenset()
    return Bare()


SIZES = [(n_in, n_out) for n_in in (1, 2, 3, 5, 6, 7, 12, 16, 21, 30, 64) for n_out in (1, 2, 3, 4, 5, 8, 13, 24, 32)]


def test_valid_factors_are_those_of_hls4ml(backend):
    for n_in, n_out in SIZES:
        assert list(valid_reuse_factors(n_in, n_out)) == backend.get_valid_reuse_factors(n_in, n_out), (n_in, n_out)


def test_nearest_is_the_one_hls4ml_puts_in_place(backend):
    for n_in, n_out in SIZES[::5]:
        valid = valid_reuse_factors(n_in, n_out)
        for chosen in range(1, n_in * n_out + 20):
            assert nearest_reuse_factor(valid, chosen) == backend.get_closest_reuse_factor(list(valid), chosen)


def test_a_factor_is_refused_exactly_when_hls4ml_would_change_it(backend):
    for n_in, n_out in ((6, 4), (12, 5), (7, 3), (1, 6)):
        for chosen in range(1, n_in * n_out + 3):
            for unrolled in (False, True):
                values = {"reuse_factor": chosen}
                layer = SimpleNamespace(
                    name="fc",
                    class_name="Dense",
                    get_attr=lambda key, v=values: v[key],
                    set_attr=lambda key, value, v=values: v.__setitem__(key, value),
                )
                as_unrolled = unrolled and chosen > 1
                if as_unrolled and not allowed_reuse_factors(n_in, n_out, "resource_unrolled"):
                    continue
                backend.set_closest_reuse_factor(layer, n_in, n_out, include_max_rf=not as_unrolled)
                kept = values["reuse_factor"] == chosen
                try:
                    check_reuse_factor(n_in, n_out, chosen, "resource_unrolled" if unrolled else "resource")
                    accepted = True
                except ConfigError:
                    accepted = False
                assert accepted == kept, (n_in, n_out, chosen, unrolled)


def test_the_error_lists_what_is_valid_and_what_hls4ml_would_do():
    with pytest.raises(ConfigError, match=r"fc1: reuse factor 5 .*12 x 4.*1, 2, 3, 4, 6, 12, 24, 48") as caught:
        check_reuse_factor(12, 4, 5, name="fc1")
    assert "silently take 4" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match=r"\.\.\. .*in all"):
        check_reuse_factor(256, 256, 3)


@pytest.mark.parametrize("factor", [0, -4])
def test_a_factor_below_one_is_an_error_in_every_strategy(factor):
    for strategy in ("latency", "resource", "resource_unrolled", "distributed_arithmetic"):
        with pytest.raises(ConfigError, match="positive"):
            check_reuse_factor(4, 4, factor, strategy)


def test_latency_takes_any_factor_and_distributed_arithmetic_only_one():
    check_reuse_factor(12, 4, 5, "latency")
    check_reuse_factor(12, 4, 1, "distributed_arithmetic")
    with pytest.raises(ConfigError, match="distributed_arithmetic"):
        check_reuse_factor(12, 4, 2, "distributed_arithmetic")


def test_unrolled_falls_back_where_hls4ml_does():
    assert effective_strategy("resource_unrolled", 1, "dense", "io_parallel") == "resource"
    assert effective_strategy("resource_unrolled", 4, "conv2d", "io_parallel") == "resource"
    assert effective_strategy("resource_unrolled", 4, "conv2d", "io_stream") == "resource_unrolled"
    assert effective_strategy("resource_unrolled", 4, "dense", "io_parallel") == "resource_unrolled"
    assert effective_strategy("latency", 4, "dense", "io_parallel") == "latency"

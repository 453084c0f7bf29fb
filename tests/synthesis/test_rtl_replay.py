import itertools

import numpy as np
import pytest

from trigger_prune.errors import UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.synthesis.rtl.replay import replay_quantizer, to_kif
from trigger_prune.synthesis.rtl.trace import predict, without_msb_wrap_pass

SOURCES = [
    FixedPoint(6, 3),
    FixedPoint(6, 3, False),
    FixedPoint(5, 8),
    FixedPoint(5, -1),
    FixedPoint(1, 1, False),
    FixedPoint(1, 1, True),
]
ROUNDINGS = (Rounding.AP_TRN, Rounding.AP_RND, Rounding.AP_RND_CONV)
OVERFLOWS = (Overflow.AP_WRAP, Overflow.AP_SAT, Overflow.AP_SAT_SYM)


def all_codes(fixed: FixedPoint) -> np.ndarray:
    return np.arange(fixed.min_code, fixed.max_code + 1)


def convert(source: FixedPoint, target: FixedPoint, shift: float = 0.0) -> np.ndarray:
    """Every code of ``source`` plus ``shift``, through alkaid's logic for a conversion to ``target``."""
    from alkaid.trace import FVArray, HWConfig, trace

    with without_msb_wrap_pass():
        precision = [np.full((1,), bits, dtype=np.int8) for bits in to_kif(source)]
        inputs = FVArray.from_kif(*precision, HWConfig(1, -1, -1), 0, {"hard_dc": 2})
        comb = trace(inputs, replay_quantizer(inputs + shift, target))
    return predict(comb, (all_codes(source) * source.lsb)[:, None])[:, 0]


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_code_of_small_types_is_converted_as_fixed_point_does(rounding, overflow):
    for source, width, integer, signed in itertools.product(SOURCES, (1, 2, 3, 6), (-2, 0, 1, 3, 6), (True, False)):
        target = FixedPoint(width, integer, signed, rounding, overflow)
        if overflow is Overflow.AP_SAT_SYM and signed and width == 1:
            continue
        expected = target.quantize(all_codes(source) * source.lsb)
        assert np.array_equal(convert(source, target), expected), (source, target)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("overflow", [Overflow.AP_WRAP, Overflow.AP_SAT])
def test_values_that_do_not_fill_their_type_are_converted_exactly(rounding, overflow):
    # alkaid's own convergent rounding is wrong here: it knows the true interval of a sum, not only its type.
    for source, shift, integer in itertools.product(SOURCES, (0.03125, -1.375, 5.5), (-1, 1, 4)):
        target = FixedPoint(3, integer, True, rounding, overflow)
        expected = target.quantize(all_codes(source) * source.lsb + shift)
        assert np.array_equal(convert(source, target, shift), expected), (source, shift, target)


@pytest.mark.parametrize(
    "target",
    [
        FixedPoint(4, 2, True, Rounding.AP_TRN_ZERO, Overflow.AP_SAT),
        FixedPoint(4, 2, True, Rounding.AP_RND_INF, Overflow.AP_SAT),
        FixedPoint(4, 2, True, Rounding.AP_TRN, Overflow.AP_SAT_ZERO),
        FixedPoint(1, 1, True, Rounding.AP_TRN, Overflow.AP_SAT_SYM),
    ],
)
def test_a_type_without_logic_is_refused_by_name(target):
    with pytest.raises(UnsupportedLayerError) as caught:
        convert(FixedPoint(6, 3), target)
    assert str(target) in caught.value.message
    assert caught.value.hint


def test_alkaid_finds_the_layer_through_the_entry_point():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="alkaid_torch", name="trigger_prune")
    assert found.value == "trigger_prune.synthesis.rtl.replay:register"
    found.load()()
    from alkaid.converter.builtin.torch.layers.modules import _modules_map

    from trigger_prune.quantize.layers import FixedQuantizer

    assert FixedQuantizer in _modules_map

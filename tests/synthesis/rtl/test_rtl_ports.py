from dataclasses import dataclass

import numpy as np
import pytest
from ghdl_simulation import values_of, word_of

from trigger_prune.errors import FixedPointError
from trigger_prune.synthesis.rtl.ports import PortType, pack, unpack


@dataclass(frozen=True)
class Ports:
    inputs: tuple[PortType, ...]
    outputs: tuple[PortType, ...]


def random_types(rng: np.random.Generator, n: int) -> tuple[PortType, ...]:
    return tuple(
        PortType(bool(rng.integers(2)), int(rng.choice([0, 1, 3, 8, 17, 33])), int(rng.integers(-3, 12)))
        for _ in range(n)
    )


@pytest.mark.parametrize("seed", range(8))
def test_bits_are_those_put_together_digit_by_digit(seed):
    rng = np.random.default_rng(seed)
    types = (*random_types(rng, int(rng.integers(1, 9))), PortType(True, 5, 2))
    low = [-(2 ** (t.width - 1)) if t.signed and t.width else 0 for t in types]
    codes = np.array([[rng.integers(a, a + 2**t.width) for a, t in zip(low, types, strict=True)] for _ in range(50)])
    values = codes * np.array([2.0**-t.fraction for t in types])
    words = pack(values, types)
    width = sum(t.width for t in types)
    assert words.shape == (50, -(-width // 32))
    project = Ports(types, types)
    for value, row in zip(values, words, strict=True):
        number = sum(int(word) << 32 * i for i, word in enumerate(row))
        assert number == word_of(value, project)
        assert values_of(f"{number:0{width}b}", project) == value.tolist()
    assert np.array_equal(unpack(words, types), values)


def test_what_does_not_suit_the_port_is_refused():
    types = (PortType(True, 4, 2), PortType(False, 3, 0))
    with pytest.raises(FixedPointError, match=r"input 1 of event 2 is 0\.5, finer than 0 fraction bits"):
        pack([[0.25, 1], [0.25, 2], [0.25, 0.5]], types)
    with pytest.raises(FixedPointError, match="port of 2 values"):
        pack(np.zeros((3, 3)), types)

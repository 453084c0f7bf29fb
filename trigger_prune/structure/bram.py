"""BRAM words: neighbouring DSP patterns whose weights share the width of a block memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trigger_prune.errors import ConfigError
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.dsp import ReuseFactor, multipliers, reuse_factors
from trigger_prune.structure.numbering import joined, layers_to_part


@dataclass(frozen=True)
class Bram:
    """Consecutive multipliers whose weights fill one slice of a block memory: zero weights free DSPs and memory.

    In a clock cycle the Resource strategy reads one word of ``multipliers * weight_bits`` bits; block memories that are
    ``word_bits`` wide (36: a simple dual-port RAMB18) hold it side by side. As many consecutive patterns go together as
    hls4ml's own DSP-aware pruning takes (``VivadoMultiObjectiveEstimator``, B. Ramhorst et al., arXiv:2308.05170):
    ``word_bits / weight_bits`` where that is a whole number, else ``ceil(2 * word_bits / weight_bits)``, so that at
    least one memory is freed with them. The last slice of a layer may be smaller.

    reuse_factor   as in ``Dsp``; a layer with reuse factor 1 keeps its weights in logic: there each is a group
    patterns       that many patterns instead of the formula

    Raises ConfigError for a word or a number of patterns below 1; ``groups`` raises what ``Dsp.groups`` raises.
    """

    reuse_factor: ReuseFactor
    word_bits: int = 36
    patterns: int | None = None

    def __post_init__(self) -> None:
        if self.word_bits < 1:
            raise ConfigError(f"structure 'bram': a memory word of {self.word_bits} bits", hint="a RAMB18 has 36")
        if self.patterns is not None and self.patterns < 1:
            raise ConfigError(f"structure 'bram': {self.patterns} patterns in a memory word", hint="1 or more")

    @property
    def name(self) -> str:
        """``bram``."""
        return "bram"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered by layer, then by the place in the memory word."""
        layers = layers_to_part(self.name, network)
        factors = reuse_factors(self.name, layers, self.reuse_factor)
        local = {}
        for name, layer in layers.items():
            together = self._together(layer.weight_type.width) if factors[name] > 1 else 1
            local[name] = multipliers(layer, factors[name]) // together
        return Groups(self.name, *joined(local))

    def _together(self, weight_bits: int) -> int:
        return self.patterns or patterns_per_word(weight_bits, self.word_bits)


def patterns_per_word(weight_bits: int, word_bits: int = 36) -> int:
    """Consecutive DSP patterns that free one block memory, by hls4ml's formula."""
    if word_bits % weight_bits == 0:
        return word_bits // weight_bits
    return -(-2 * word_bits // weight_bits)


register_structure("bram", Bram)

"""What is removed together. ``structure_by_name`` knows every structure of this package."""

from trigger_prune.structure import block as block
from trigger_prune.structure import bram as bram
from trigger_prune.structure import dsp as dsp
from trigger_prune.structure import filter as filter
from trigger_prune.structure import head as head
from trigger_prune.structure import input as input
from trigger_prune.structure import layer as layer
from trigger_prune.structure import n_m as n_m
from trigger_prune.structure import neuron as neuron
from trigger_prune.structure import weight as weight
from trigger_prune.structure._base import Groups, Structure, structure_by_name, structure_names

__all__ = ["Groups", "Structure", "structure_by_name", "structure_names"]

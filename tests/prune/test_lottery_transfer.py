from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.prune.lottery.transfer import LayerTransfer, transfer_masks


def net(**widths: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, nn.Linear(*reversed(shape))) for name, shape in widths.items()))


def masks(**shapes: tuple[int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {name: torch.rand(shape, generator=generator) < 0.4 for name, shape in shapes.items()}


def test_by_name_before_by_shape_and_the_rest_is_told() -> None:
    given = masks(a=(4, 3), b=(4, 4), c=(4, 4), d=(2, 4), e=(9, 9))
    found, report = transfer_masks(given, net(b=(4, 4), a=(4, 7), x=(4, 4), y=(4, 4), head=(2, 4)))
    assert {name: tuple(mask.shape) for name, mask in found.items()} == {
        "b": (4, 4),
        "a": (4, 7),
        "x": (4, 4),
        "y": (4, 4),
        "head": (2, 4),
    }
    assert torch.equal(found["b"], given["b"])
    assert torch.equal(found["x"], given["c"])
    assert torch.equal(found["head"], given["d"])
    assert bool(found["a"].all()) and bool(found["y"].all())
    assert report.transferred == 3
    assert report.layers == (
        LayerTransfer("b", "b", "name"),
        LayerTransfer("a", None, "none", "its shape is (4, 7), in the ticket (4, 3)"),
        LayerTransfer("x", "c", "shape"),
        LayerTransfer("y", None, "none", "the masks of shape (4, 4) (b, c) serve other layers"),
        LayerTransfer("head", "d", "shape"),
        LayerTransfer(None, "a", "none", "no layer of shape (4, 3) is left in the network"),
        LayerTransfer(None, "e", "none", "no layer of shape (9, 9) is left in the network"),
    )


def test_equal_shapes_go_in_order_and_a_name_is_never_robbed_of_its_mask() -> None:
    given = masks(p=(3, 3), q=(3, 3), r=(3, 3))
    found, report = transfer_masks(given, net(u=(3, 3), q=(3, 3), v=(3, 3)))
    assert [entry.source for entry in report.layers] == ["p", "q", "r"]
    assert all(torch.equal(found[name], given[source]) for name, source in (("u", "p"), ("q", "q"), ("v", "r")))
    found["u"][:] = True
    assert not bool(given["p"].all())


def test_a_layer_neither_named_nor_of_a_known_shape_keeps_its_weights() -> None:
    found, report = transfer_masks(masks(a=(4, 3)), net(a=(4, 3), z=(5, 4)))
    assert bool(found["z"].all())
    assert report.layers[1].reason == "the ticket has neither this name nor a layer of shape (5, 4)"


def test_a_ticket_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"no layer of the ticket fits .* in the ticket \(4, 3\)"):
        transfer_masks(masks(a=(4, 3)), net(a=(5, 3)))

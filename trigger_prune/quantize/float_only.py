"""Operations of attention, which have no fixed-point form here: the refusal that names them, and what works instead."""

from __future__ import annotations

from torch import fx, nn

from trigger_prune.errors import UnsupportedLayerError

_PRODUCT = "multiplies activations with each other, and only weights are constants in the firmware"
_SOFTMAX = "needs exponentials and a division"
_NORM = "divides by a standard deviation that every event has of its own"
_ATTENTION = f"is a softmax, which {_SOFTMAX}, between products of activations"
_REASONS = {
    "matmul": _PRODUCT,
    "bmm": _PRODUCT,
    "einsum": _PRODUCT,
    "layernorm": _NORM,
    "groupnorm": _NORM,
    "instancenorm1d": _NORM,
    "rmsnorm": _NORM,
    "scaleddotproductattention": _ATTENTION,
    "multiheadattention": _ATTENTION,
    "multiheadattentionforward": _ATTENTION,
    "transformerencoderlayer": _ATTENTION,
}
"""By name of layer or function, in lower case and without underscores."""

HINT = (
    "what works is a processor, with quantised weights and float activations: --set cost.backend=runtime. For an FPGA "
    "take a model without attention: mlp, conv1d, conv2d or deep_sets"
)


def refuse_float_only(name: str, network: fx.GraphModule) -> None:
    """Raise UnsupportedLayerError when the traced model ``name`` holds one of these operations, naming all of them.

    A softmax alone is not one of them: it is left to the table of layers, which says that logits are exported.
    """
    found: dict[str, str] = {}
    softmax = ""
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        if node.op in ("call_module", "call_function", "call_method"):
            key = what.lower().replace("_", "")
            if key in _REASONS:
                found.setdefault(what, f"{what} (in {_place(node, module)}) {_REASONS[key]}")
            elif key == "softmax" and not softmax:
                softmax = f"{what} (in {_place(node, module)}) {_SOFTMAX}"
    if found:
        reasons = [*found.values(), *([softmax] if softmax else [])]
        raise UnsupportedLayerError(f"{name} has no fixed-point form for an FPGA: {'; '.join(reasons)}", hint=HINT)


def _place(node: fx.Node, module: nn.Module | None) -> str:
    """The layer, or the module whose forward calls the function."""
    if module is not None:
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    owner = next(reversed(stack.values()), ("", None))[0] if stack else ""
    return str(owner) or node.name

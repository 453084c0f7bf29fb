"""Where tensors live."""

from __future__ import annotations

import torch

from trigger_prune.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA when present, else the CPU. Raises ConfigError for ``cuda`` without CUDA."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"train.device is {name}, but torch finds no CUDA device", hint="use `device: auto` or `device: cpu`"
        )
    return device

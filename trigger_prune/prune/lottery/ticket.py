"""``Ticket``: a mask and the weights that training starts from, in memory and on disk."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trigger_prune.errors import ArtefactError
from trigger_prune.prune.lottery.masks import apply_masks, check_masks, sparsity_of
from trigger_prune.prune.lottery.training import State, set_state

Method = Literal["imp", "early_bird", "pretrained", "transfer"]

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Ticket:
    """A sparse network before its training.

    method         how the mask was found
    masks          by layer: bool, shaped like the weight, True = kept; on the CPU
    state          every parameter and buffer that training starts from; masked weights need not be zero in it
    start_step     step of the schedule that training begins at
    search_steps   optimiser steps that finding it took
    seed           of its weights and of the order of events
    """

    method: Method
    masks: dict[str, Tensor]
    state: State
    start_step: int
    search_steps: int
    seed: int

    @property
    def sparsity(self) -> float:
        """Fraction of weights that are masked."""
        return sparsity_of(self.masks)

    def load_into(self, network: nn.Module) -> None:
        """Give ``network`` the ticket's weights, masked ones zero, in place. Raises ModelError for another network."""
        check_masks(network, self.masks)
        set_state(network, self.state)
        apply_masks(network, self.masks)


def save_ticket(ticket: Ticket, path: Path) -> None:
    """Write ``ticket`` (tensors and plain values, no pickled code), under a temporary name first."""
    payload = {
        "format": _FORMAT,
        "method": ticket.method,
        "masks": ticket.masks,
        "state": ticket.state,
        "start_step": ticket.start_step,
        "search_steps": ticket.search_steps,
        "seed": ticket.seed,
        "digest": state_digest({**{f"mask {k}": v for k, v in ticket.masks.items()}, **ticket.state}),
    }
    save_aside(payload, path)


def load_ticket(path: Path) -> Ticket:
    """Inverse of ``save_ticket``. Raises ArtefactError when the file is missing, damaged or no ticket."""
    try:
        raw: Any = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(raw, dict) or raw.pop("format") != _FORMAT:
            raise ValueError("it is no ticket of this version")
        if raw.pop("digest") != state_digest({**{f"mask {k}": v for k, v in raw["masks"].items()}, **raw["state"]}):
            raise ValueError("its weights are not the ones that were written")
        return Ticket(**raw)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, LookupError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{path} is not a readable ticket: {error}", hint="`trigger-prune lottery` writes tickets to build/lottery"
        ) from error


def state_digest(state: State) -> str:
    """SHA-256 (hex) of named tensors: torch does not notice a flipped bit."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_aside(payload: Any, path: Path) -> None:
    """``torch.save`` under a temporary name, then rename: ``path`` is never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(payload, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

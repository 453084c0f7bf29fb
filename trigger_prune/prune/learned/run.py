"""One training with learned widths: down to a cost, and from there to finished networks."""

from __future__ import annotations

import copy
import math
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import fx

from trigger_prune.config.learn_section import LearnConfig
from trigger_prune.prune.measured import LoopInputs, OnEpoch
from trigger_prune.quantize.learned.convert import LearnedBits, fixed_network, learned_network
from trigger_prune.quantize.learned.price import CostPath, PriceController
from trigger_prune.quantize.learned.train import charge_of, train_to_cost
from trigger_prune.train.history import FitHistory

_FILE = "learned.pt"

FixedCost = Callable[[fx.GraphModule], float]
"""Cost of a fixed-point network relative to what is wanted of it."""

_INTEGRAL_TIME = 60.0
"""Gain of the integral part times the number of steps: a short training needs a faster controller."""


@dataclass
class LearnedRun:
    """The network in training (``network``), the price of a bit, and how far the training is.

    charge   where the goal of the cost is now, in units of ``config.charge``
    stage    how many times ``descend`` was called
    """

    network: fx.GraphModule
    inputs: LoopInputs
    config: LearnConfig
    charge: float = 0.0
    stage: int = 0
    controller: PriceController = field(default_factory=PriceController)

    @classmethod
    def begin(cls, network: fx.GraphModule, inputs: LoopInputs, config: LearnConfig) -> LearnedRun:
        """From a quantised network; its weights are the start, its widths those of ``config``."""
        channels = config.activations != "tensor"
        bits = LearnedBits(
            config.weight_bits,
            config.activation_bits,
            config.weights,
            "channel" if channels else "tensor",
            inputs=config.inputs and channels,
            wrap=config.overflow == "wrap" and channels,
        )
        run = cls(learned_network(network, inputs.train.features, bits), inputs, config)
        run.charge = charge_of(run.network, config.charge)
        return run

    def descend(
        self, charge: float, epochs: int, phase: str, on_epoch: OnEpoch, cost: FixedCost | None = None
    ) -> FitHistory:
        """Train on a constant learning rate while the cost goes to ``charge``, or to another charge that ``cost`` of
        the networks on the way asks for; ``charge`` of the run says where it went."""
        self.stage += 1
        path = CostPath(self.charge, charge)
        named = f"{phase} {self.stage}"
        history = self._train(self.network, self.controller, path, epochs, named, False, on_epoch, cost)
        self.charge = path.end
        return history

    def annealed(
        self,
        charge: float,
        epochs: int,
        phase: str,
        on_epoch: OnEpoch,
        cost: FixedCost | None = None,
        lead: float = 1.0,
    ) -> tuple[fx.GraphModule, FitHistory, float]:
        """A finished fixed-point network of about ``charge``, or of another charge that ``cost`` of the networks on
        the way asks for, ``lead`` times as high, which comes third; the run itself stays where it is."""
        network, controller = copy.deepcopy(self.network), copy.copy(self.controller)
        path = CostPath(self.charge, charge)
        history = self._train(network, controller, path, epochs, phase, True, on_epoch, cost, lead)
        return self._fixed(network), history, path.end

    def snapshot(self) -> fx.GraphModule:
        """The fixed-point network of this moment."""
        return self._fixed(self.network)

    def _fixed(self, network: fx.GraphModule) -> fx.GraphModule:
        training = network.training
        fixed = fixed_network(network.cpu().eval(), self.inputs.train.features)
        network.train(training)
        return fixed

    def _train(
        self,
        network: fx.GraphModule,
        controller: PriceController,
        path: CostPath,
        epochs: int,
        phase: str,
        anneal: bool,
        on_epoch: OnEpoch,
        cost: FixedCost | None,
        lead: float = 1.0,
    ) -> FitHistory:
        settings = replace(
            self.inputs.settings,
            phase=phase,
            epochs=epochs,
            learning_rate=self.config.learning_rate,
            seed=self.inputs.settings.seed + 1000 * self.stage + anneal,
        )
        steps = epochs * math.ceil(len(self.inputs.train) / settings.batch_size)
        controller.per_step = max(0.003, min(0.05, _INTEGRAL_TIME / max(1, steps)))
        return train_to_cost(
            network,
            self.inputs.train,
            self.inputs.validation,
            settings,
            controller,
            path,
            anneal=anneal,
            kind=self.config.charge,
            progress=on_epoch,
            cost=None if cost is None else lambda: cost(self._fixed(copy.deepcopy(network))),
            lead=lead,
        )

    def save(self, scratch: Path, key: str) -> None:
        """Into the folder ``scratch``, under a temporary name first."""
        payload = {
            "key": key,
            "state": self.network.state_dict(),
            "charge": self.charge,
            "stage": self.stage,
            "log_price": self.controller.log_price,
        }
        scratch.mkdir(parents=True, exist_ok=True)
        temporary = scratch / f".{_FILE}.{os.getpid()}"
        try:
            torch.save(payload, temporary)
            temporary.replace(scratch / _FILE)
        finally:
            temporary.unlink(missing_ok=True)

    def restore(self, scratch: Path, key: str, stage: int) -> bool:
        """Take over what ``save`` wrote after ``stage``; False, with a warning, where that cannot be done."""
        path = scratch / _FILE
        if not path.exists():
            return False
        try:
            payload: Any = torch.load(path, map_location="cpu", weights_only=True)
            if payload["key"] != key or payload["stage"] != stage:
                raise ValueError("it belongs to another run or moment")
            self.network.load_state_dict(payload["state"])
            self.charge, self.stage = float(payload["charge"]), int(payload["stage"])
            self.controller.log_price = float(payload["log_price"])
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, LookupError, TypeError, ValueError) as error:
            warnings.warn(f"the training in {path} is not used, it starts again: {error}", stacklevel=2)
            return False
        return True

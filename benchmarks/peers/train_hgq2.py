"""HGQ2: one network trained along a rising beta, the weight of the EBOPs in the loss; one run gives a whole front.

Settings: epochs, warmup_epochs (beta stays at its first value), beta (first, last; the ramp between is exponential),
learning_rate, cycle_epochs (cosine with restarts), batch_size, bits (at the start), bins_per_octave and
fewest_ebops: in every bin of EBOPs the epoch with the best validation AUC is kept.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

import time
from typing import Any

import keras
import numpy as np
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.layers import QDense
from hgq.utils import trace_minmax
from hgq.utils.sugar import BetaScheduler, FreeEBOPs, PieceWiseSchedule
from in_peer import Job, Networks, cpu_s, mean_auc, read_job


def build(job: Job) -> keras.Model:
    """16-64-32-32-classes; every weight, bias and activation has bits of its own."""
    bits = job.settings["bits"]
    with (
        QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM"),
        QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP", f0=bits, i0=3),
        QuantizerConfigScope(place=("weight", "bias"), b0=bits),
        LayerConfigScope(enable_ebops=True, beta0=job.settings["beta"][0]),
    ):
        inputs = keras.Input((job.events.x["train"].shape[1],))
        x = inputs
        for width in job.settings["hidden"]:
            x = QDense(width, activation="relu")(x)
        return keras.Model(inputs, QDense(job.classes)(x))


class KeepBest(keras.callbacks.Callback):
    """The best epoch on validation within each bin of EBOPs."""

    def __init__(self, job: Job, steps_per_epoch: int) -> None:
        super().__init__()
        self.job = job
        self.steps_per_epoch = steps_per_epoch
        self.start_s = cpu_s()
        self.kept: dict[int, dict[str, Any]] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score the network of this epoch."""
        settings = self.job.settings
        if epoch % settings["score_every_epochs"] or epoch < settings["warmup_epochs"]:
            return
        ebops = float((logs or {})["ebops"])
        if ebops < settings["fewest_ebops"]:
            return
        outputs = self.model.predict_on_batch(self.job.events.x["validation"])
        auc = mean_auc(outputs, self.job.events.y["validation"])
        octave = int(np.floor(np.log2(ebops) * settings["bins_per_octave"]))
        if octave in self.kept and self.kept[octave]["auc"] >= auc:
            return
        self.kept[octave] = {
            "auc": auc,
            "ebops": ebops,
            "epoch": epoch,
            "optimiser_steps": (epoch + 1) * self.steps_per_epoch,
            "train_cpu_s": round(cpu_s() - self.start_s, 2),
            "weights": self.model.get_weights(),
        }


class Restarts(keras.callbacks.Callback):
    """Learning rate: cosine from its peak to a twentieth of it, again and again."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.peak, self.cycle = settings["learning_rate"], settings["cycle_epochs"]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the rate of this epoch."""
        phase = (epoch % self.cycle) / self.cycle
        self.model.optimizer.learning_rate = self.peak * (0.05 + 0.95 * (1 + np.cos(np.pi * phase)) / 2)


def main() -> None:
    """Train, then trace the kept networks."""
    job = read_job()
    settings = job.settings
    keras.utils.set_random_seed(job.seed)
    model = build(job)
    x, y = job.events.x["train"], job.events.y["train"]
    batch = settings["batch_size"]
    steps = len(x) // batch
    first, last = settings["beta"]
    schedule = PieceWiseSchedule(
        [(0, first, "constant"), (settings["warmup_epochs"], first, "log"), (settings["epochs"], last, "constant")]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(settings["learning_rate"]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=1,
    )
    keep = KeepBest(job, steps)
    callbacks = [BetaScheduler(schedule), Restarts(settings), FreeEBOPs(), keep]
    start = time.time()
    model.fit(
        x[: steps * batch],
        y[: steps * batch],
        batch_size=batch,
        epochs=settings["epochs"],
        verbose=0,
        callbacks=callbacks,
    )
    total_s = cpu_s() - keep.start_s
    print(f"trained in {time.time() - start:.0f} s, {total_s:.0f} s of CPU")
    networks = Networks(job)
    for found in sorted(keep.kept.values(), key=lambda item: item["ebops"]):
        model.set_weights(found.pop("weights"))
        # wrapping activations get the integer bits that all training events need
        ebops = trace_minmax(model, x, batch_size=len(x))
        networks.add(
            f"epoch{found['epoch']:05d}",
            model,
            "keras",
            lambda part: np.asarray(model.predict_on_batch(part)),
            settings={"epoch": found["epoch"], "beta": schedule(found["epoch"]), "ebops": ebops},
            optimiser_steps=found["optimiser_steps"],
            train_cpu_s=found["train_cpu_s"],
        )
    networks.write(optimiser_steps=settings["epochs"] * steps, train_cpu_s=round(total_s, 2))


if __name__ == "__main__":
    main()

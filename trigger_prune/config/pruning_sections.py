"""Keys of project.yaml about the sensitivity scan and pruning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trigger_prune.config._section import Fraction, PositiveInt, Section

StructureName = Literal["weight", "block", "n_m", "dsp", "bram", "neuron", "filter", "head", "input", "layer"]

SOLVER_CRITERION = "obs_gauss_newton"
"""Of scope solver by default: it weighs layers against each other, which takes increases of the loss."""


class SensitivityConfig(Section):
    """Which layers and inputs matter."""

    sparsities: list[Fraction] = Field(
        default=[0.25, 0.5, 0.7, 0.8, 0.9, 0.95], description="Sparsities tried on each layer, the others untouched."
    )
    criteria: list[str] = Field(
        default=[], description="Importance criteria to compare (default: prune.criterion alone)."
    )
    structures: list[StructureName] = Field(
        default=[], description="Structures to compare (default: prune.structure alone)."
    )
    bits: list[Annotated[int, Field(ge=2, le=16)]] = Field(
        default=[], description="Weight bits tried on each layer, beside those of section quantize."
    )
    max_events: PositiveInt = Field(default=20_000, description="Validation events used per point.")
    interval_width: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Stop a point when the 68 % interval of its accuracy (or loss) difference to the unpruned network "
        "is this narrow, or no wider than a fifth of the difference, instead of looking at all events.",
    )


class PruneConfig(Section):
    """Pruning until the measured cost meets the budget."""

    criterion: str = Field(
        default="magnitude_l1",
        description="Importance of a weight (scope solver: obs_gauss_newton unless set). From the weights: "
        "magnitude_l1, magnitude_l2, lamp, random, batchnorm_scale. From training events too: gradient, snip, taylor, "
        "taylor_fisher, obd, obd_fisher, obd_hessian, obs, obs_gauss_newton, wanda, apoz, activation, "
        "activation_variance, attention. movement watches the fine-tuning. `taylor_fisher + 2 wanda` is a weighted "
        "average of ranks, `taylor_fisher * wanda` their product.",
    )
    structure: StructureName = Field(
        default="weight",
        description="What is removed together: single weights; blocks of weights; n of m inputs of a neuron (n_m); the "
        "weights of one multiplier under a reuse factor (dsp) or of one block RAM word (bram); neurons; filters; "
        "attention heads; input features; whole layers.",
    )
    block: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = Field(
        default=[4, 4], description="structure block: rows (outputs) and columns (inputs) of a block."
    )
    n_of_m: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] = Field(
        default=[2, 4], description="structure n_m: n weights are kept of every m neighbouring inputs."
    )
    schedule: Literal["one_shot", "linear", "geometric", "cubic", "adaptive"] = Field(
        default="cubic",
        description="Sparsity against time on a ramp. adaptive follows the validation figure: it slows down and steps "
        "back when more than `tolerance` is lost.",
    )
    ramp_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5, description="Part of a ramp's epochs in which weights go; the rest trains with the final mask."
    )
    repair: bool = Field(
        default=False,
        description="schedule one_shot: the weights that stay make up for the removed ones before training goes on "
        "(optimal brain surgeon, layer by layer). With criterion obs it also chooses which go.",
    )
    regrow: Literal["none", "set", "rigl"] = Field(
        default="none",
        description="While training, drop the least important weights and grow as many elsewhere: at random (set) or "
        "where the gradient is largest (rigl). Single weights only.",
    )
    regrow_fraction: Fraction = Field(default=0.3, description="Part of the kept weights that is moved at first.")
    scope: Literal["global", "layer", "solver", "learned"] = Field(
        default="global",
        description="global: one ranking over the whole network (no layer falls below half of the network's density). "
        "layer: the same sparsity in every layer. solver: every layer's sparsity, reuse factor and strategy are chosen "
        "for the least loss within the budget. learned: the bits of every weight and activation are trained with the "
        "weights (section learn), and what reaches zero bits is pruned.",
    )
    layer_sparsity: dict[str, Fraction] = Field(
        default={}, description="Final sparsity of single layers, by name; the others follow `scope`."
    )
    reuse_factors: list[PositiveInt] = Field(
        default=[],
        description="scope solver, HLS backends: reuse factors a layer may take (default: target.reuse_factor alone).",
    )
    strategies: list[Literal["Latency", "Resource", "Resource_Unrolled", "distributed_arithmetic"]] = Field(
        default=[], description="scope solver, HLS backends: strategies a layer may take (default: target.strategy)."
    )
    weight_bits: list[Annotated[int, Field(ge=2, le=16)]] = Field(
        default=[],
        description="scope solver: widths of weights, the same in all layers, to choose from (default: "
        "quantize.weight_bits).",
    )
    goal: Literal["budget", "tolerance"] = Field(
        default="budget",
        description="budget: prune until the measured cost meets the budget. tolerance: find the largest sparsity that "
        "loses at most `tolerance` of the objective on validation.",
    )
    tolerance: Annotated[float, Field(ge=0)] = Field(
        default=0.01, description="Loss of the objective that goal tolerance and schedule adaptive accept."
    )
    drop_redundant_inputs: bool = Field(
        default=True,
        description="Merge inputs that equal another one on every training event, and fold constant ones away.",
    )
    first_sparsity: Fraction = Field(
        default=0.5,
        description="Highest sparsity of the first round; less is pruned when the estimated cost asks for less, and "
        "nothing when the network fits as it is.",
    )
    density_step: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.6, description="Each round keeps at least this fraction of the weights left by the round before."
    )
    max_rounds: PositiveInt = Field(
        default=10, description="Give up (with an error) when the budget is not met after so many."
    )
    candidates: PositiveInt = Field(
        default=1,
        description="Networks trained in every round, for aims 10 % apart before the first report and 3 % apart after "
        "it: with tools on another machine (cost.offline) one stop then holds several designs. They count as one "
        "round.",
    )
    epochs_per_round: PositiveInt = Field(
        default=20,
        description="Epochs of one round of the search for the sparsity; the cubic ramp fills half of them.",
    )
    final_epochs: Annotated[int, Field(ge=0)] = Field(
        default=200,
        description="Epochs of the last training, from the unpruned network on one long ramp to the sparsity that the "
        "rounds have found; its length is what keeps the accuracy. 0 keeps the network of the last round.",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=4e-3, description="Peak learning rate of fine-tuning.")

    @model_validator(mode="before")
    @classmethod
    def _criterion_of_scope(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("scope") == "solver":
            return {"criterion": SOLVER_CRITERION, **values}
        return values

    @model_validator(mode="after")
    def _require_sense(self) -> PruneConfig:
        if self.n_of_m[0] >= self.n_of_m[1]:
            raise ValueError(f"n_of_m {self.n_of_m}: n must be below m")
        if self.regrow != "none" and self.structure != "weight":
            raise ValueError(f"regrow {self.regrow} moves single weights; structure {self.structure} has none")
        if self.repair and self.schedule != "one_shot":
            raise ValueError(f"repair belongs to schedule one_shot, not to {self.schedule}")
        if self.regrow != "none" and self.schedule == "adaptive":
            raise ValueError("schedule adaptive steps back, which regrow cannot; use another schedule")
        if self.scope in ("solver", "learned") and self.goal == "tolerance":
            raise ValueError(f"scope {self.scope} needs goal budget")
        if self.scope == "learned" and self.structure != "weight":
            raise ValueError(f"scope learned prunes single weights, not structure {self.structure}")
        unused = {
            "schedule": self.schedule != "cubic",
            "regrow": self.regrow != "none",
            "repair": self.repair,
            "layer_sparsity": bool(self.layer_sparsity),
        }
        if self.scope in ("solver", "learned") and any(unused.values()):
            names = ", ".join(name for name, given in unused.items() if given)
            raise ValueError(f"scope {self.scope} makes no use of {names}; use scope global or layer, or leave it out")
        return self

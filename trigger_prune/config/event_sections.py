"""Keys of project.yaml about events: where they are, what their weights mean, how they become integers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trigger_prune.config._section import Fraction, PositiveInt, Section, Seed


class DataConfig(Section):
    """Where the events are and what their columns mean."""

    path: str = Field(
        default="builtin:jets16",
        description="Events: `builtin:jets16`, `builtin:jets16_constituents`, `builtin:level1`, "
        "`builtin:level1_regions`, a file (.npz, .h5/.hdf5, .parquet, .root), or a folder of level-1 events as "
        "`trigger-prune data make level1` writes it. A relative path starts at the folder of project.yaml.",
    )
    features: str | list[str] | None = Field(
        default=None,
        description="Name of the array that holds all features (npz, HDF5; default: x) or the list of columns/branches "
        "(parquet, ROOT; default: every numeric column that has no other role).",
    )
    label: str | None = Field(
        default=None, description="Name of the label array, column or branch (default: y, else label)."
    )
    label_expression: dict[str, str] | None = Field(
        default=None,
        description="Instead of `label`: class name -> boolean expression of columns, e.g. "
        "`{signal: 'is_b == 1', background: 'is_b == 0'}`; the first that is true wins (parquet, ROOT).",
    )
    weight: str | None = Field(
        default=None,
        description="Name of the event-weight array, column or branch (default: weight if present, else 1).",
    )
    group: str | None = Field(
        default=None,
        description="Name of the collision-number array, column or branch: rows of one collision never part in the "
        "split (default: group if present, else every row is its own).",
    )
    weight_unit: Literal["relative", "minimum_bias", "hz"] = Field(
        default="relative",
        description="What a weight of the background means in an event file. relative: nothing but a ratio. "
        "minimum_bias: a share of all bunch crossings, scaled so that the background adds up to their rate (see "
        "luminosity). hz: a rate. Level-1 folders have rates in any case.",
    )
    observables: list[str] | None = Field(
        default=None,
        description="Arrays or columns that the network does not see, for turn-on curves and cuts. Level-1 folders "
        "have theirs in any case.",
    )
    signals: list[str] | None = Field(
        default=None,
        description="Level-1 events: the signal processes to read, e.g. [HH4b] (default: all of them). The background "
        "is class 0, minimum_bias.",
    )
    inputs: Literal["objects", "regions"] = Field(
        default="objects",
        description="Level-1 folders: 57 hardware integers of trigger objects, or images of calorimeter regions.",
    )
    tree: str | None = Field(
        default=None, description="TTree or RNTuple name in a ROOT file; needed when there are several."
    )
    class_names: list[str] | None = Field(
        default=None, description="Names of the classes in label order, if the file has none."
    )
    feature_names: list[str] | None = Field(default=None, description="Names of the features, if the file has none.")
    max_events: PositiveInt | None = Field(
        default=None, description="Use only the first so many rows (for quick trials)."
    )

    @model_validator(mode="after")
    def _name_the_label_once(self) -> DataConfig:
        if self.label is not None and self.label_expression is not None:
            raise ValueError("label and label_expression are both given; leave one out")
        return self


class SplitConfig(Section):
    """Deterministic split by collision into training, validation and test parts."""

    train_fraction: Fraction = Field(default=0.6, description="Part of the collisions used for training.")
    validation_fraction: Fraction = Field(
        default=0.2, description="Part used for early stopping, pruning and thresholds."
    )
    seed: Seed = Field(default=0, description="Another seed gives another, equally deterministic split.")

    @model_validator(mode="after")
    def _leave_a_test_part(self) -> SplitConfig:
        if not 0 < self.train_fraction < self.train_fraction + self.validation_fraction < 1:
            raise ValueError("train_fraction and validation_fraction must be above 0 and leave a test part")
        return self


class LuminosityConfig(Section):
    """The collisions that rates are quoted for."""

    pileup: Annotated[float, Field(gt=0)] = Field(
        default=50.0,
        description="Mean collisions per crossing. Another value than that of the events re-weights them.",
    )
    filling: str | int = Field(
        default="72b",
        description="Which of the 3564 bunch-crossing slots collide: 72b, 48b, 36b, continuous, a number of colliding "
        "bunches, or a file with 3564 zeros and ones. Its crossings times 11 245.5 Hz are the rate of all events.",
    )


class PhysicsConfig(Section):
    """Signal, background, and the working points that are quoted."""

    signal: list[str] | None = Field(
        default=None,
        description="Classes that are signal; all others are background (default: of two classes the second, of "
        "level-1 events every class but minimum_bias, else none).",
    )
    rates_khz: list[Annotated[float, Field(gt=0)]] = Field(
        default=[1.0, 10.0, 100.0],
        min_length=1,
        description="Background rates at which efficiencies are quoted, ascending.",
    )
    rate_khz: Annotated[float, Field(gt=0)] = Field(
        default=100.0, description="Background rate of objective efficiency_at_rate."
    )
    false_positive_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.01, description="Weighted background efficiency of objective efficiency_at_fpr."
    )
    turn_on: list[str] | None = Field(
        default=None,
        description="Observables to draw the efficiency against (default: those of the events that are offline "
        "variables).",
    )
    menu: bool = Field(
        default=True, description="Level-1 events: compare with cuts on the trigger objects, alone and as a menu."
    )

    @model_validator(mode="after")
    def _require_order(self) -> PhysicsConfig:
        if self.rates_khz != sorted(set(self.rates_khz)):
            raise ValueError(f"rates_khz {self.rates_khz} must ascend")
        return self


class InputConfig(Section):
    """How a feature becomes the integer that the firmware receives."""

    width_bits: Annotated[int, Field(ge=1, le=24)] = Field(default=10, description="Bits of one network input.")
    integer_bits: int = Field(
        default=4,
        description="Bits left of the binary point, sign included, after centring and scaling to about unit width.",
    )
    scale: Literal["power_of_two", "by_unit", "exact"] = Field(
        default="power_of_two",
        description="Scale of each feature: the power of two nearest to its standard deviation (a bit shift in "
        "firmware), the same for all features of one physical unit by the widest of them (level-1 events: equal "
        "momenta stay equal, and a muon, rare as it is, is not blown up), or the exact standard deviation (a "
        "multiplication).",
    )
    offset: Literal["mean", "integer", "none"] = Field(
        default="mean",
        description="What is subtracted from each feature: its mean, the whole number nearest to it (an exact "
        "subtraction where features are hardware integers), or nothing (then the input is a mere shift of the bits).",
    )

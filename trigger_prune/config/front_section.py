"""Keys of project.yaml about the front of many budgets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trigger_prune.config._section import PositiveInt, Section


class FrontConfig(Section):
    """`trigger-prune budget`: the best network for every pair of a latency and a number of LUTs.

    The other limits of section budget hold for all of them.
    """

    latency_ns: list[Annotated[float, Field(gt=0)]] = Field(
        default=[], description="Latencies in ns (default: budget.latency_ns alone)."
    )
    lut: list[PositiveInt] = Field(default=[], description="Numbers of LUTs (default: budget.lut alone).")

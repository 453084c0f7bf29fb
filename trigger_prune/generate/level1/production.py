"""Which files make up a level-1 sample: the pool of soft collisions first, then one file per process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trigger_prune.errors import ConfigError
from trigger_prune.generate.level1.maker import Level1Maker
from trigger_prune.generate.level1.pool import SoftPoolMaker
from trigger_prune.generate.level1.processes import PROCESSES, find_process, rows_of

# a larger pool costs time once; a smaller one has fewer hard collisions to draw, and its mean energy is less exact
# (1 % with 10 000 collisions)
_EVENTS_PER_POOL_EVENT = 4
_MIN_POOL_EVENTS, _MAX_POOL_EVENTS = 2_000, 100_000


def level1_makers(
    events: int,
    seed: int,
    pile_up: float,
    with_regions: bool,
    signals: Sequence[str],
    signal_events: int | None,
    out: Path,
    pool_events: int | None = None,
) -> list[SoftPoolMaker | Level1Maker]:
    """Makers of the pool, every background and the named ``signals``, whose files go to the folder ``out``.

    events         background rows in all, split by the processes' shares
    signal_events  rows of each signal; a share of ``events`` when None
    seed           of the whole production; it names the pool in the files' settings
    pool_events    soft collisions generated for the overlay; a quarter of ``events``, 2000 to 100 000, when None
    Raises ConfigError on an unknown signal or numbers that make no sense.
    """
    for name in signals:
        if not find_process(name).is_signal:
            raise ConfigError(f"{name} is a background: it is always made", hint="name signals only")
    if pool_events is None:
        pool_events = min(max(events // _EVENTS_PER_POOL_EVENT, _MIN_POOL_EVENTS), _MAX_POOL_EVENTS)
    pool = SoftPoolMaker(pool_events)
    pool_file = out / f"{pool.name}.npz"
    chosen = [process for process in PROCESSES if not process.is_signal or process.name in signals]
    return [
        pool,
        *(
            Level1Maker(
                process,
                rows_of(process, events, signal_events),
                pool_file,
                pool.identity() | {"seed": seed},
                pile_up=pile_up,
                with_regions=with_regions,
            )
            for process in chosen
        ),
    ]

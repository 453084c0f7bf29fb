"""Which classes of a sample are signal, and which are trained on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError


def signal_classes(wanted: Sequence[str] | None, sample: EventSample) -> tuple[int, ...]:
    """Indices of the signal classes; see physics.signal. Raises ConfigError for unknown names and for all classes."""
    if wanted is None:
        if sample.rate_weights:
            return tuple(range(1, sample.n_classes))
        return (1,) if sample.n_classes == 2 else ()
    found = _class_indices("physics.signal", wanted, sample.class_names)
    if not found or len(found) == sample.n_classes:
        raise ConfigError(f"physics.signal: {len(found)} of {sample.n_classes} classes are signal", hint="name some")
    return found


def trained_classes(wanted: Sequence[str] | None, sample: EventSample) -> tuple[int, ...]:
    """Indices of the classes that the loss counts; see train.classes. Raises ConfigError for unknown names."""
    if wanted is None:
        return tuple(range(sample.n_classes))
    return _class_indices("train.classes", wanted, sample.class_names)


def _class_indices(key: str, wanted: Sequence[str], names: tuple[str, ...]) -> tuple[int, ...]:
    for name in wanted:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{key}: there is no class {name!r}{meant}", hint=f"the classes are {', '.join(names)}")
    return tuple(sorted(names.index(name) for name in set(wanted)))

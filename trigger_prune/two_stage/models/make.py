"""The light models that a project asks for."""

from __future__ import annotations

from collections.abc import Sequence

from trigger_prune.config.two_stage_section import LightConfig
from trigger_prune.errors import ConfigError
from trigger_prune.two_stage.models.light_inputs import FullModel, FullScores, LightInputs, full_scores
from trigger_prune.two_stage.models.light_model import LightModel
from trigger_prune.two_stage.models.pruned import make_pruned
from trigger_prune.two_stage.models.selected_inputs import choose_inputs
from trigger_prune.two_stage.models.tiny import make_tiny


def make_light_models(configs: Sequence[LightConfig], full: FullModel, inputs: LightInputs) -> tuple[LightModel, ...]:
    """One light model per entry of ``two_stage.lights``, trained one after the other, in that order.

    Same seed, same bits. Names are unique. Raises ConfigError for what cannot be made of this full model, naming the
    entry, and what trainings raise.
    """
    names = light_names(configs)
    scores = full_scores(full, inputs.train.features), full_scores(full, inputs.validation.features)
    chosen: dict[int, tuple[int, ...]] = {}
    models: list[LightModel] = []
    for name, config in zip(names, configs, strict=True):
        if config.kind == "pruned":
            models.append(make_pruned(name, config, full, inputs, scores))
        else:
            models.append(_small(name, config, full, inputs, scores, chosen))
        for said in models[-1].notes:
            inputs.note(f"light model {name}: {said}")
    return tuple(models)


def _small(
    name: str,
    config: LightConfig,
    full: FullModel,
    inputs: LightInputs,
    scores: FullScores,
    chosen: dict[int, tuple[int, ...]],
) -> LightModel:
    """Of all features, or of the most useful ones; ``chosen`` remembers these by their number."""
    features = full.kept_inputs
    notes: tuple[str, ...] = ()
    if config.kind == "inputs":
        count = min(config.inputs, len(features))
        if count < config.inputs:
            notes = (f"the full model reads {count} features, not {config.inputs}",)
        elif count not in chosen:
            chosen[count] = choose_inputs(full, inputs, count)
        features = chosen.get(count, features)
        notes += (f"reads {', '.join(inputs.feature_names[index] for index in features)}",)
    return make_tiny(name, config, features, inputs, scores, notes)


def light_names(configs: Sequence[LightConfig]) -> tuple[str, ...]:
    """Names in tables and of files, unique. Raises ConfigError when two entries have the same name of their own."""
    given = [config.name for config in configs if config.name is not None]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise ConfigError(f"two_stage.lights: two light models are called {twice[0]!r}", hint="give each its own name")
    found: list[str] = []
    for config in configs:
        base = config.name or _default_name(config)
        name, number = base, 1
        while config.name is None and (name in found or name in given):
            number += 1
            name = f"{base}-{number}"
        found.append(name)
    return tuple(found)


def _default_name(config: LightConfig) -> str:
    hidden = "x".join(str(width) for width in config.hidden) or "linear"
    base = {
        "pruned": f"pruned-{100 * config.sparsity:g}",
        "tiny": f"tiny-{hidden}",
        "inputs": f"inputs{config.inputs}-{hidden}",
    }[config.kind]
    return f"{base}-learned" if config.difficulty == "learned" else base

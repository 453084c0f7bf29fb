"""Light models: what they learn, what they keep, what they refuse."""

import copy

import numpy as np
import pytest
import torch
from light_toys import GRID, events, gaussians, light_inputs, linear_full, trained_full
from torch import nn

from trigger_prune.config.two_stage_section import LightConfig
from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.two_stage.models import pruned as pruned_module
from trigger_prune.two_stage.models.light_inputs import FullModel, LightInputs, full_scores
from trigger_prune.two_stage.models.make import light_names, make_light_models
from trigger_prune.two_stage.models.selected_inputs import choose_inputs, weighted_ranks
from trigger_prune.verify.representations import torch_outputs


def scores_of(light, batches):
    return full_scores(FullModel(light.network, light.kept_inputs, light.score), batches.features)


def rank_correlation(a, b):
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def one(config, full, inputs):
    (light,) = make_light_models([LightConfig(**config)], full, inputs)
    return light


def test_full_scores_read_the_kept_features_in_their_order():
    features, labels = gaussians(1, [0.0] * 4, rows=50)
    batches = events(features, labels, "binary")
    full = linear_full([1.0, 10.0], kept=(3, 1))
    x = batches.features.double().numpy()
    assert np.allclose(full_scores(full, batches.features), x[:, 3] + 10 * x[:, 1], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("task", ["binary", "classify"])
def test_the_more_distilled_the_closer_to_the_full_score(task):
    # the labels go with x0, the full score with x1
    inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.3, 0.0]), task)
    full = linear_full([0.0, 2.0, 0.0])
    if task == "classify":
        full = linear_full([0.0] * 3, [0.0, 2.0, 0.0], score=Score("difference", (1,), (0,)))
    x = inputs.validation.features.numpy()
    found = [
        rank_correlation(
            scores_of(one({"kind": "tiny", "hidden": [6], "distil": d, "epochs": 4}, full, inputs), inputs.validation),
            x[:, 1],
        )
        for d in (0.0, 0.5, 1.0)
    ]
    assert found[0] < 0.6 < found[1] < found[2]
    assert found[2] > 0.98


def test_undistilled_follows_the_labels():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.3, 0.0]))
    light = one({"kind": "tiny", "distil": 0.0, "epochs": 4}, linear_full([0.0, 2.0, 0.0]), inputs)
    x = inputs.validation.features.numpy()
    assert rank_correlation(scores_of(light, inputs.validation), 1.5 * x[:, 0] + 0.3 * x[:, 1]) > 0.97


def test_the_unit_of_the_full_score_does_not_matter():
    # powers of two, so that not even a rounding differs
    inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.3, 0.0]))
    config = {"kind": "tiny", "distil": 0.5, "epochs": 1}
    small, large = (one(config, linear_full([0.0, unit, 0.0]), inputs) for unit in (0.5, 16.0))
    assert np.array_equal(scores_of(small, inputs.validation), scores_of(large, inputs.validation))


def test_a_task_without_labels_follows_the_full_score():
    inputs = light_inputs(lambda seed: gaussians(seed, [0.0, 3.0, 0.0]), "autoencoder")
    # trained on background alone, as an anomaly search is
    for part in (inputs.train, inputs.validation):
        part.weights[part.classes == 1] = 0.0
    full = linear_full([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], score=Score("sum_of_squares"))
    light = one({"kind": "tiny", "hidden": [16], "epochs": 15}, full, inputs)
    background = inputs.validation.take(inputs.validation.classes == 0)
    assert rank_correlation(scores_of(light, background), full_scores(full, background.features)) > 0.9
    assert any("no labels" in note for note in light.notes)


def test_tiny_has_the_bits_and_neurons_asked_for():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.3, 0.5]))
    config = {"kind": "tiny", "hidden": [6, 4], "weight_bits": 5, "activation_bits": 4, "epochs": 2}
    spec = describe_network(one(config, linear_full([1.0, 1.0, 1.0]), inputs).network)
    assert [layer.weight_type.width for layer in spec.layers] == [5, 5, 5]
    assert [len(layer.weight) for layer in spec.layers][-1] == spec.n_outputs == 1
    assert all(len(layer.weight) <= width for layer, width in zip(spec.layers, (6, 4), strict=False))
    assert spec.layers[1].input_type.width == 4


def test_events_with_positions_are_flattened():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0], shape=(2, 3)), "binary")
    full = FullModel(linear_full([2.0, 0.0, 0.0, 2.0, 0.0, 0.0]).network, (0, 1), Score("head"))
    light = one({"kind": "tiny", "epochs": 4}, full, inputs)
    assert describe_network(light.network).n_outputs == 1
    assert rank_correlation(scores_of(light, inputs.validation), full_scores(full, inputs.validation.features)) > 0.95


def test_planted_features_are_chosen_and_of_two_copies_one():
    def make(seed):
        features, labels = gaussians(seed, [0.0] * 6)
        features[:, 5] = features[:, 4]
        return features, labels

    inputs = light_inputs(make)
    # alone, x4 and its copy matter less than x2; together they matter more
    full = linear_full([0.0, 1.0, 0.6, 0.05, 0.5, 0.5])
    chosen = choose_inputs(full, inputs, 2)
    assert chosen in ((1, 4), (1, 5))
    assert set(choose_inputs(full, inputs, 3)) == {*chosen, 2}
    assert 4 in choose_inputs(full, inputs, 4) or 5 in choose_inputs(full, inputs, 4)


def test_the_light_model_of_chosen_inputs_reads_them_alone():
    inputs = light_inputs(lambda seed: gaussians(seed, [0.0, 1.5, 0.0, 1.0, 0.0]))
    full = linear_full([0.1, 1.5, 0.0, 1.0, 0.1])
    light = one({"kind": "inputs", "inputs": 2, "epochs": 4}, full, inputs)
    assert light.kept_inputs == (1, 3)
    assert "reads x1, x3" in light.notes
    assert rank_correlation(scores_of(light, inputs.validation), full_scores(full, inputs.validation.features)) > 0.95
    heard = []
    object.__setattr__(inputs, "note", heard.append)
    few = one({"kind": "inputs", "inputs": 9, "epochs": 1}, full, inputs)
    assert few.notes[0] == "the full model reads 5 features, not 9"
    assert "light model inputs9-8: the full model reads 5 features, not 9" in heard


def test_weighted_ranks_are_the_weight_below():
    generator = np.random.default_rng(0)
    scores, weights = generator.integers(0, 9, 60).astype(float), generator.exponential(size=60)
    brute = [(weights[scores < s].sum() + weights[scores == s].sum() / 2) / weights.sum() for s in scores]
    assert np.allclose(weighted_ranks(scores, weights), brute, rtol=1e-12)


@pytest.fixture(scope="module")
def quantised():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    return trained_full(inputs), inputs


def pruned_and_before(monkeypatch, config, full, inputs):
    """The light model, and its network as it was before what has no effect was taken out."""
    seen = []

    def watched(network):
        seen.append(copy.deepcopy(network))
        return shrink_network(network)

    monkeypatch.setattr(pruned_module, "shrink_network", watched)
    return one({"kind": "pruned", **config}, full, inputs), seen[0]


@pytest.mark.parametrize("difficulty", ["score", "learned"])
def test_pruned_masks_the_exact_number_and_shrinks_bit_for_bit(quantised, monkeypatch, difficulty):
    full, inputs = quantised
    before_bits = {name: layer.weight_type for name, layer in prunable_layers(full.network).items()}
    config = {"sparsity": 0.9, "difficulty": difficulty, "weight_bits": 5, "activation_bits": 4, "epochs": 6}
    light, network = pruned_and_before(monkeypatch, config, full, inputs)
    masks = [layer.weight_mask for layer in prunable_layers(network).values()]
    total = 8 * 16 + 16 * 8 + 8
    assert sum(mask.numel() for mask in masks) == total
    assert sum(int((mask == 0).sum()) for mask in masks) == round(0.9 * total)
    assert len(light.kept_inputs) < 8
    x = inputs.validation.features.numpy()
    assert np.array_equal(
        torch_outputs(network, x, double=True),
        torch_outputs(light.network, np.ascontiguousarray(x[:, list(light.kept_inputs)]), double=True),
    )
    spec = describe_network(light.network)
    assert {layer.weight_type.width for layer in spec.layers} == {5}
    assert {layer.input_type.width for layer in spec.layers[1:]} == {4}
    # the full model is what it was
    assert {name: layer.weight_type for name, layer in prunable_layers(full.network).items()} == before_bits
    assert all(bool(layer.weight_mask.all()) for layer in prunable_layers(full.network).values())


def test_pruned_keeps_the_score_and_most_of_the_order(quantised):
    full, inputs = quantised
    light = one({"kind": "pruned", "sparsity": 0.85, "epochs": 6}, full, inputs)
    assert light.score == full.score
    assert light.kept_inputs == (0, 3)
    x = inputs.validation.features.numpy()
    assert rank_correlation(scores_of(light, inputs.validation), 1.5 * x[:, 0] + x[:, 3]) > 0.8


def test_pruned_counts_kept_inputs_in_all_features(quantised):
    full, inputs = quantised
    # a full model that reads the features from the back to the front
    turned = FullModel(full.network, tuple(reversed(range(8))), full.score)
    flipped = LightInputs(
        inputs.train.with_features(inputs.train.features.flip(1)),
        inputs.validation.with_features(inputs.validation.features.flip(1)),
        inputs.settings,
        inputs.signal_classes,
        inputs.background_fraction,
        GRID,
        tuple(reversed(inputs.feature_names)),
    )
    config = {"kind": "pruned", "sparsity": 0.9, "epochs": 4}
    straight, other = one(config, full, inputs), one(config, turned, flipped)
    assert other.kept_inputs == tuple(7 - index for index in straight.kept_inputs)
    assert np.array_equal(scores_of(straight, inputs.validation), scores_of(other, flipped.validation))


def test_same_seed_same_bits(quantised):
    full, inputs = quantised
    configs = [
        LightConfig(kind="pruned", sparsity=0.9, epochs=2),
        LightConfig(kind="tiny", epochs=1),
        LightConfig(kind="tiny", epochs=1, difficulty="learned"),
        LightConfig(kind="inputs", inputs=3, epochs=1),
    ]
    torch.manual_seed(1)
    first = make_light_models(configs, full, inputs)
    torch.manual_seed(2)
    second = make_light_models(configs, full, inputs)
    other_inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]), seed=4)
    other = make_light_models(configs[1:2], full, other_inputs)
    for a, b in zip(first, second, strict=True):
        assert a.kept_inputs == b.kept_inputs and a.name == b.name
        assert np.array_equal(scores_of(a, inputs.validation), scores_of(b, inputs.validation))
    assert not np.array_equal(scores_of(first[1], inputs.validation), scores_of(other[0], inputs.validation))


def test_names_are_unique():
    entries = [
        LightConfig(kind="tiny"),
        LightConfig(kind="tiny", weight_bits=4),
        LightConfig(kind="tiny", hidden=[16, 4], difficulty="learned"),
        LightConfig(kind="tiny", name="tiny-8-3"),
        LightConfig(kind="tiny", weight_bits=3),
        LightConfig(kind="pruned", sparsity=0.925),
        LightConfig(kind="inputs", inputs=6),
    ]
    names = light_names(entries)
    assert names == (
        "tiny-8", "tiny-8-2", "tiny-16x4-learned", "tiny-8-3", "tiny-8-4", "pruned-92.5", "inputs6-8",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="two light models are called 'a'"):
        light_names([LightConfig(kind="tiny", name="a"), LightConfig(kind="pruned", name="a")])


def test_pruned_refuses_float_activations(quantised):
    _, inputs = quantised
    with pytest.raises(ConfigError, match=r"'pruned-95'.*float activations"):
        one({"kind": "pruned"}, linear_full([1.0] * 8), inputs)


def test_light_inputs_refuse_what_is_no_trigger(quantised):
    _, inputs = quantised

    def made(**changes):
        return LightInputs(**{name: getattr(inputs, name) for name in inputs.__dataclass_fields__} | changes)

    with pytest.raises(ConfigError, match="no class is signal"):
        made(signal_classes=())
    with pytest.raises(ConfigError, match="accepts 1 of the background"):
        made(background_fraction=1.0)
    bare = copy.copy(inputs.train)
    object.__setattr__(bare, "physical", None)
    with pytest.raises(DataError, match="validation events with classes"):
        made(validation=bare)


def test_unquantised_modules_can_be_full_models():
    inputs = light_inputs(lambda seed: gaussians(seed, [1.5, 0.3]))
    full = FullModel(nn.Sequential(nn.Linear(2, 1)), (0, 1), Score("head"))
    assert one({"kind": "tiny", "epochs": 1}, full, inputs).score == Score("head")

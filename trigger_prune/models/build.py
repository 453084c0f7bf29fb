"""From the ``model`` section of project.yaml to a network, with every mistake named."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trigger_prune.config.project import ModelConfig
from trigger_prune.errors import ModelError
from trigger_prune.models.autoencoder import Autoencoder
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.encoder import Encoder
from trigger_prune.models.mlp import Mlp
from trigger_prune.models.source import model_source_files, module_files, split_import_path

__all__ = ["REFERENCE_MODELS", "build_model", "model_source_files"]

REFERENCE_MODELS: dict[str, Callable[..., nn.Module]] = {
    "autoencoder": Autoencoder,
    "conv1d": Conv1dNet,
    "conv2d": Conv2dNet,
    "deep_sets": DeepSets,
    "encoder": Encoder,
    "mlp": Mlp,
}


def build_model(
    config: ModelConfig, input_shape: Sequence[int], n_outputs: int, project_dir: Path | None = None
) -> nn.Module:
    """The network of ``config``, freshly initialised from torch's global random state.

    input_shape   one event, without the batch axis, e.g. ``(16,)`` or ``(F, P)``
    n_outputs     logits per event (an autoencoder: as many as inputs)
    project_dir   searched first for ``package.module:Callable``; its modules are read afresh at every call

    Raises ModelError for an unknown name, a module or callable that is missing, unknown or missing arguments, a result
    that is no nn.Module, and a network that does not map ``(2, *input_shape)`` to ``(2, n_outputs)``.
    """
    factory = _find(config.name, project_dir)
    offered = {"input_shape": tuple(input_shape), "n_outputs": n_outputs}
    arguments = _arguments(config, factory, offered)
    try:
        network = factory(**arguments)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {config.name!r} cannot be built: {type(error).__name__}: {error}",
            hint=f"it was called with {arguments}",
        ) from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"model {config.name!r} gave a {type(network).__name__}, not a torch.nn.Module")
    _trial_forward(config.name, network, tuple(input_shape), n_outputs)
    return network


def _find(name: str, project_dir: Path | None) -> Callable[..., Any]:
    if ":" not in name:
        if name not in REFERENCE_MODELS:
            raise ModelError(
                f"unknown reference model {name!r}{_nearest(name, REFERENCE_MODELS)}",
                hint=f"reference models: {', '.join(REFERENCE_MODELS)}; your own: package.module:Callable",
            )
        return REFERENCE_MODELS[name]
    module_name, attribute = split_import_path(name)
    with _first_on_path(project_dir, module_name):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise ModelError(
                f"model {name!r}: importing {module_name} failed: {type(error).__name__}: {error}",
                hint=f"looked in {project_dir} first, then among the installed packages",
            ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        what = "no" if factory is None else "something that cannot be called as"
        callables = [key for key, value in vars(module).items() if callable(value)]
        raise ModelError(f"model {name!r}: {module.__file__} has {what} {attribute!r}{_nearest(attribute, callables)}")
    result: Callable[..., Any] = factory
    return result


@contextmanager
def _first_on_path(project_dir: Path | None, module_name: str) -> Iterator[None]:
    """Imports see ``project_dir`` first, and what was imported from it is forgotten afterwards.

    Forgetting is what lets two projects of one process both call their file model.py, and an edited file be read
    again. No byte code is written: its time stamp would not tell two edits within a second apart.
    """
    if project_dir is None:
        yield
        return
    folder = project_dir.resolve()
    top = module_name.partition(".")[0]
    aside: dict[str, Any] = {}
    if module_files(top, folder) or (folder / top).is_dir():
        for key in [key for key in sys.modules if key == top or key.startswith(top + ".")]:
            aside[key] = sys.modules.pop(key)
    before = set(sys.modules)
    without_bytecode = sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = without_bytecode
        sys.path.remove(str(folder))
        for key in set(sys.modules) - before:
            file = getattr(sys.modules[key], "__file__", None)
            if key == top or key.startswith(top + ".") or (file and Path(file).resolve().is_relative_to(folder)):
                del sys.modules[key]
        sys.modules.update(aside)


def _arguments(config: ModelConfig, factory: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters.values()
    by_name = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in config.args:
        if key not in by_name and not takes_any:
            raise ModelError(
                f"model {config.name!r} has no argument {key!r}{_nearest(key, by_name)}",
                hint=f"its arguments: {', '.join(by_name) or 'none'}",
            )
    given = {key: value for key, value in offered.items() if key in by_name or takes_any} | config.args
    missing = [p.name for p in by_name.values() if p.default is p.empty and p.name not in given]
    if missing:
        raise ModelError(
            f"model {config.name!r} needs the argument {missing[0]!r}{_nearest(missing[0], given)}",
            hint="give it under model.args, or a default in the code",
        )
    return given


def _trial_forward(name: str, network: nn.Module, input_shape: tuple[int, ...], n_outputs: int) -> None:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    parameter = next(network.parameters(), None)
    x = torch.zeros((2, *input_shape), dtype=torch.float32 if parameter is None else parameter.dtype)
    try:
        with torch.no_grad():
            y = network(x)
    except Exception as error:
        raise ModelError(
            f"model {name!r} fails on an input of shape {tuple(x.shape)}: {type(error).__name__}: {error}",
            hint="the first axis is the event, the others are one event as the data give it",
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    shape = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
    if shape != (2, n_outputs):
        raise ModelError(
            f"model {name!r} maps {tuple(x.shape)} to {shape}, expected (2, {n_outputs})",
            hint="one row of logits per event: one logit per class, or one reconstructed value per input",
        )


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

"""`load_model`: a name becomes a `LanguageModel`, lean where the lean forward computes the same."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from specbench_s2d.errors import ModelError, UserError, as_parameters, check_flags, in_one_line, reworded
from specbench_s2d.models.base import Identity, LanguageModel
from specbench_s2d.models.config_check import check_stored
from specbench_s2d.models.devices import (
    SPREAD,
    check_device,
    default_device,
    find_dtype,
    first_device,
    free_by_device,
    release_memory,
)
from specbench_s2d.models.engines.choose import MakeEngine, check_engine, choose_engine
from specbench_s2d.models.forward_check import check_forward, is_checked, not_checked
from specbench_s2d.models.heads.eagle import EagleHead
from specbench_s2d.models.heads.eagle3 import Eagle3Head
from specbench_s2d.models.heads.eagle3_shape import Eagle3Shape
from specbench_s2d.models.heads.eight_bits import unscaled
from specbench_s2d.models.heads.medusa import MedusaHead
from specbench_s2d.models.heads.shape import MEDUSA, HeadShape
from specbench_s2d.models.hf import TransformersModel
from specbench_s2d.models.llama import LlamaModel, quantisation, why_not_lean
from specbench_s2d.models.memory import plan_memory
from specbench_s2d.models.pickled import PickledWeights, refusal
from specbench_s2d.models.placement import check_fits, max_memory
from specbench_s2d.models.quiet import quiet
from specbench_s2d.models.remarks import load_facts, remarks
from specbench_s2d.models.resolve import ResolvedModel, resolve_model
from specbench_s2d.models.safe_weights import SafeWeights
from specbench_s2d.models.shapes import random_weights
from specbench_s2d.models.stored_weights import check_finite, check_module, check_type, type_name
from specbench_s2d.models.tensors import tensor_shapes
from specbench_s2d.models.tied_head import EMBEDDING, HEAD
from specbench_s2d.models.transfer import loaded_to
from specbench_s2d.models.weights import Weights


def load_model(
    name: str | Path | ResolvedModel,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    lean: bool = True,
    engine: str | MakeEngine | None = None,
    limits: Mapping[int, int] | None = None,
    verify_forward: bool | None = None,
) -> LanguageModel:
    """Load a demo model, a shape (`shape:NAME`), a folder or a hub id (`owner/name[@revision]`) for inference.

    `device` is `cuda` if there is one, else `cpu`; `auto` spreads the weights over all visible GPUs. `dtype` is
    `float32` on a CPU, `bfloat16` on a GPU, `float16` on one older than Ampere. Llama-family checkpoints run through
    the lean forward unless `lean` is False or they are spread; all others through transformers'.
    `engine`: `eager`, `native` (CPU), `cuda-graphs` (GPU), `graphs` for either of these two; by default the fastest
    that model and machine allow.
    `limits`: of `auto`, bytes of weights by GPU at most (`placement.max_memory`); by default what is free there,
    less what passes work in. `verify_forward`: hold the lean forward to transformers' own on a few positions
    (`models/forward_check.py`); by default models of up to 50 million parameters are. A model that is resolved already
    is not resolved again; of any other, what `remarks` says comes as a `UserWarning`.
    Raises `ModelError` (or `UnknownNameError`) in one line when that cannot be done, for want of memory say.
    """
    model = name if isinstance(name, ResolvedModel) else None
    with nullcontext() if model else reworded(as_parameters):
        check_flags(trust_remote_code=trust_remote_code, lean=lean, verify_forward=verify_forward or False)
        if not isinstance(name, str | Path | ResolvedModel):
            raise UserError(f"load_model: name {name!r} is no text; give a model's name, its folder, or a hub id.")
        if not isinstance(device, str | torch.device | None):
            raise UserError(
                f"device={str(device)!r}: not a device; give cpu, cuda or cuda:N, or {SPREAD} for all GPUs."
            )
        device = str(device or default_device())
        place, chosen = _checked_place(device, dtype, engine)
        if model is None:
            model = resolve_model(str(name), revision, trust_remote_code)
            for line in () if model.head_shape else remarks(model):
                warnings.warn(as_parameters(line), stacklevel=2)
        return _loaded(model, device, place, chosen, lean, engine, limits, verify_forward)


def _checked_place(
    device: str, dtype: str | torch.dtype | None, engine: str | MakeEngine | None
) -> tuple[torch.device, torch.dtype]:
    """The device and the number format; raises `UserError` where they, or the engine on them, do not exist."""
    place, chosen = check_device(device), find_dtype(dtype, device)
    check_engine(engine, place, chosen)
    return place, chosen


def _loaded(
    model: ResolvedModel,
    device: str,
    place: torch.device,
    chosen: torch.dtype,
    lean: bool,
    engine: str | MakeEngine | None,
    limits: Mapping[int, int] | None,
    verify_forward: bool | None,
) -> LanguageModel:
    """As `load_model`, of a resolved model."""
    check_spread(model, device)
    if model.head_shape:
        return _load_head(model, model.head_shape, place, chosen)
    why_transformers = _why_transformers(model, device, lean)
    checked = why_transformers is None and is_checked(model, verify_forward)
    plans, free = [plan_memory(model, chosen, on_host=place.type == "cpu", checked=checked)], free_by_device(device)
    check_fits(plans, device, free)
    loaded: LanguageModel
    if why_transformers is None:
        loaded = _lean(model, place, chosen, engine)
    elif engine in (None, "eager"):
        spread = "sequential" if device == SPREAD else str(place) if quantisation(model.config) else None
        limits = limits or max_memory(plans, free) if device == SPREAD else limits
        module = read_module(model, place, chosen, spread, limits)
        identity = _identity(model, f"transformers ({why_transformers})")
        loaded = TransformersModel(identity, module, model.tokenizer, model.eos_ids, model.vocabulary)
    else:
        raise _no_engine(model, engine, why_transformers)
    loaded.ranking, loaded.load_facts = model.ranking, load_facts(model)
    if checked:
        reference = partial(_reference, model, place, chosen)
        loaded.load_facts["forward_check"] = check_forward(loaded, reference, bool(verify_forward))
        if place.type == "cuda":
            release_memory()  # of the second copy
    elif verify_forward:
        reason = "it runs through transformers' own forward" if why_transformers else "random weights"
        loaded.load_facts["forward_check"] = not_checked(reason)
    return loaded


def check_loads(model: ResolvedModel, device: str, dtype: torch.dtype, engine: str | None) -> None:
    """Raise `ModelError` for an engine that cannot run the model, as far as that shows before its weights are read."""
    if engine in (None, "eager") or model.head_shape:
        return
    if why_transformers := _why_transformers(model, device, lean=True):
        raise _no_engine(model, engine, why_transformers)
    choose_engine(engine, model.name, model.config, torch.device(first_device(device)), dtype)


def _no_engine(model: ResolvedModel, engine: object, why_transformers: str) -> ModelError:
    return ModelError(
        f"{model.name} --engine {engine}: it runs through transformers ({why_transformers}); use --engine eager."
    )


def _lean(
    model: ResolvedModel, place: torch.device, dtype: torch.dtype, engine: str | MakeEngine | None
) -> LanguageModel:
    """The model through the lean forward."""
    config = model.config
    read = random_weights(config, place, dtype) if model.shape else tensor_reader(model, place, dtype)
    made = choose_engine(engine, model.name, config, place, dtype)
    about = _identity(model, "lean"), config, read, model.tokenizer, model.eos_ids
    return LlamaModel(*about, place, dtype, made, model.vocabulary)


def _identity(model: ResolvedModel, forward: str) -> Identity:
    return Identity(
        name=model.name,
        revision=model.revision,
        weights_sha256=model.sha256,
        architecture=str(model.config.model_type),
        forward=forward,
        random_weights=model.random_weights,
        source=model.source,
    )


def _reference(model: ResolvedModel, place: torch.device, dtype: torch.dtype) -> Any:
    """transformers' own model of the same files; over an adapter, its base's tensors with ours added."""
    if model.adapter is None:
        return read_module(model, place, dtype)
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_config(model.config, dtype=dtype)
    read = tensor_reader(model, torch.device("cpu"), dtype)
    module.load_state_dict({name: read(name) for name in tensor_shapes(model.config)}, strict=False)
    return module.to(place).eval()


def _load_head(model: ResolvedModel, shape: HeadShape, place: torch.device, dtype: torch.dtype) -> LanguageModel:
    """A draft head; EAGLE's get their engine when they are attached to a target."""
    identity = Identity(model.name, model.revision, model.sha256, shape.kind, "lean", source=model.source)
    read = tensor_reader(model, place, dtype)
    head: EagleHead | MedusaHead
    if shape.kind == MEDUSA:
        head = MedusaHead(identity, model.config.vocab_size, shape, read, place, dtype)
    elif isinstance(shape, Eagle3Shape):
        head = Eagle3Head(identity, model.config, shape, read, place, dtype)
    else:
        head = EagleHead(identity, model.config, shape, read, place, dtype)
    head.ranking = model.ranking
    return head


def check_spread(model: ResolvedModel, device: str) -> None:
    """Raise `ModelError` where a model needs the lean forward and `device` is `auto`, which is transformers' own."""
    if device == SPREAD and (model.shape or model.is_nested):
        what = "a shape's weights are made" if model.shape else "a nested draft's layers run"
        raise ModelError(f"{model.name}: {what} on one device; give --device cuda or cuda:N in place of {SPREAD}.")


def _why_transformers(model: ResolvedModel, device: str, lean: bool) -> str | None:
    """Why the model must go through transformers' own forward, or None; raises `ModelError` for a shape that must."""
    if device == SPREAD:
        return "device map"
    if not lean and (model.shape or model.adapter):
        what = "a shape" if model.shape else "an adapter over a base's first layers"
        raise ModelError(f"{model.name}: {what} has no checkpoint for transformers to load; leave out lean=False.")
    return why_not_lean(model.config) if lean else "as asked"


def tensor_reader(model: ResolvedModel, device: torch.device, dtype: torch.dtype) -> Weights:
    """A function that reads one tensor by name onto the device; raises `ModelError` for a name that is not there."""
    weights = model.weights
    in_files: Callable[[str], Tensor]
    in_files = PickledWeights(weights, model.name) if weights.pickled else SafeWeights(weights.files, model.name)
    if model.head_shape:
        in_files = unscaled(in_files, model.name)

    def read(name: str) -> Tensor:
        try:
            tensor = stored(name)
        except KeyError:
            raise _lacks(model, name) from None
        check_type(type_name(tensor.dtype), name, model.name)
        loaded = loaded_to(device, dtype, tensor)
        check_finite(loaded, tensor, name, model.name)
        return loaded

    def stored(name: str) -> Tensor:
        try:
            return in_files(name)
        except KeyError:
            if name != EMBEDDING or not model.config.tie_word_embeddings:
                raise
            return in_files(HEAD)  # the one of a tied pair that is there

    return model.adapter.over(read, model.depth, model.name) if model.adapter else read


def _lacks(model: ResolvedModel, tensor: str) -> ModelError:
    """The refusal of weights without a tensor that the config calls for."""
    return ModelError(f"{model.name}: the weights lack {tensor!r}; this is not the checkpoint its config describes.")


def hide_progress_bars() -> None:
    """Keep transformers' own progress bars out of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def read_module(
    model: ResolvedModel,
    place: torch.device,
    dtype: torch.dtype,
    spread: str | dict[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
) -> Any:
    """transformers' own model on `place`, or laid out by `spread`, transformers' device map, within `limits` (bytes of
    weights by GPU); raises `ModelError`."""
    from transformers import AutoModelForCausalLM

    hide_progress_bars()
    check_stored(model.config, sum(file.stat().st_size for file in model.weights.files), model.name)
    options: dict[str, Any] = {} if spread is None else {"device_map": spread}
    if limits:
        options["max_memory"] = dict(limits)
    try:
        with quiet():  # of a head that is not tied: `remarks` says so
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(model.folder),
                dtype=dtype,
                use_safetensors=not model.weights.pickled,
                weights_only=True,  # of .bin weights: tensors alone, whatever else the pickle holds
                trust_remote_code=model.trust_remote_code,
                output_loading_info=True,
                **options,
            )
    except ImportError as error:
        raise ModelError(
            f"{model.name}: a package that transformers needs for it is missing ({in_one_line(error, whole=True)}); "
            "install that."
        ) from error
    except pickle.UnpicklingError as error:
        raise refusal(model.name, "one of its .bin files", error) from error
    except Exception as error:  # damaged weights surface as zip, struct, index, end-of-file and many other errors
        of_shapes = "ignore_mismatched_sizes" in str(error)  # transformers' own words tell of a flag of its own
        said = "tensors of other shapes than config.json says" if of_shapes else in_one_line(error, whole=True)
        raise ModelError(f"{model.name}: transformers cannot load it ({said}).") from error
    module, info = loaded
    if info["missing_keys"]:  # transformers would go on with random numbers in their place
        raise _lacks(model, sorted(info["missing_keys"])[0])
    if spread is None:
        module = module.to(place)
    else:
        _refuse_offloading(model, module)
    check_module(module, None if quantisation(model.config) else model.weights, model.name)
    return module


def _refuse_offloading(model: ResolvedModel, module: Any) -> None:
    """A layer that waits on the disk or in host memory would be copied over at every pass, and that be timed."""
    places = {str(place) for place in getattr(module, "hf_device_map", {}).values()}
    if places & {"disk"} or ("cpu" in places and len(places) > 1):
        raise ModelError(
            f"{model.name}: the GPUs cannot hold it, and transformers would keep a part off them; give more GPUs, a "
            "smaller model, or a quantised one."
        )

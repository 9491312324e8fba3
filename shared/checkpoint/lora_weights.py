"""Low-rank changes of layers: read from the tensors of a file, whatever its layout, and given to a file again."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shared.checkpoint.lora_layout import bare_name, describe, group_tensors, likeliest, readings
from shared.utils.errors import UserError

LARGEST_RANK = 4096
#: Shapes [out, in] of a model's linear layers by name, and whether they have a bias.
Linears = Mapping[str, tuple[tuple[int, int], bool]]


class Adapter(NamedTuple):
    """Change of one layer: its weight by alpha / rank · b a, its bias by `bias` (then alpha is the rank).
    a: [rank, in], b: [out, rank], bias: [out]."""

    a: Tensor
    b: Tensor
    alpha: float
    bias: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rows of a."""
        return len(self.a)


class Places(NamedTuple):
    """Where the layers of a file go: {layer in the file: (component, name)}, and its tensors that go nowhere."""

    layers: dict[str, tuple[str, str]]
    left: list[str]


def find_places(shapes: Mapping[str, tuple[int, ...]], models: Mapping[str, Linears] | None, where: str) -> Places:
    """Find the layer of `models` (by component) that each layer of a file belongs to, by its tensors' shapes. UserError
    naming the first that fits none. What changes no linear layer by low rank (norms, modulation, a bias alone) is left.
    Without models the file's word is taken."""
    places: dict[str, tuple[str, str]] = {}
    left: list[str] = []
    groups = group_tensors(shapes, where)
    guesses = likeliest(groups) if models is None else {}
    for layer, roles in groups.items():
        if models is None:
            found = guesses.get(layer)
        else:
            found = next((one for one in readings(layer) if one[1] in models.get(one[0], {})), None)
        whole = found is not None and "diff" in roles and len(shapes[roles["diff"]]) == 2
        if not whole and not {"A", "B", "alpha"} & roles.keys():
            left += roles.values()
            continue
        if found is None:
            raise _no_layer(layer, models or {}, where)
        left += [name for role, name in roles.items() if role == "modulation"]
        if found in places.values():
            raise UserError(f"lora {where}: {'.'.join(found)} is changed twice; one layout at a time is loaded")
        linears = None if models is None else models[found[0]]
        if misfit := _misfit({role: shapes[one] for role, one in roles.items()}, found[1], linears):
            fits = "" if linears is None else f": {_fitting(linears)}"
            raise UserError(f"lora {where}: {'.'.join(found)} {misfit}{fits}")
        places[layer] = found
    return Places(places, left)


def _no_layer(layer: str, models: Mapping[str, Linears], where: str) -> UserError:
    """Say that no model has this layer of a file, and what would fit."""
    component = readings(layer)[0][0]
    if component not in models:
        return UserError(f"lora {where}: changes {component}, of which this pipeline has none that takes it")
    name = f"{component}.{[name for part, name in readings(layer) if part == component][-1]}"
    said = f"this model has no layer {name}" + (f" ({layer})" if layer != name else "")
    if re.search(r"k_img|v_img|img_emb|add_[kv]_proj|image_embedder", layer):
        said += ", which an image-to-video Wan has"
    return UserError(f"lora {where}: {said}; it belongs to another one: {_fitting(models[component])}")


def _fitting(linears: Linears) -> str:
    return describe({name: shape for name, (shape, _) in linears.items()})


def _misfit(shapes: Mapping[str, tuple[int, ...]], name: str, linears: Linears | None) -> str:
    """Say what is wrong with the tensors of a layer, by role, unless they are a pair A [r, in] and B [out, r], or a
    whole difference [out, in], with a bias [out] or without; of the sizes that the layer has here."""
    if "diff" in shapes:
        if {"A", "B", "scaled bias"} & shapes.keys():
            return "has a diff beside lora_A or lora_B; one of them is loaded"
        here = shapes["diff"] if linears is None else linears[name][0]
        rank = min(here)
        if shapes["diff"] != here:
            return f"has a diff {list(shapes['diff'])}; here it must be {list(here)}"
    elif not {"A", "B"} <= shapes.keys():
        return "has only one of lora_A and lora_B; the file is not whole"
    else:
        a, b = shapes["A"], shapes["B"]
        here = ((*b, 0)[0], (*a, 0, 0)[1]) if linears is None else linears[name][0]
        rank = (*a, 0)[0]
        if len(a) != 2 or len(b) != 2 or (b[0], a[1]) != here or a[0] != b[1]:
            return f"has A {list(a)} and B {list(b)}; here they must be [rank, {here[1]}] and [{here[0]}, rank]"
    if not 0 < rank <= LARGEST_RANK:
        return f"has rank {rank}; 1 to {LARGEST_RANK} can be"
    if math.prod(shapes.get("alpha", ())) != 1:
        return f"has an alpha of shape {list(shapes['alpha'])}; one number is needed"
    biases = [shapes[role] for role in ("bias", "scaled bias") if role in shapes]
    if biases not in ([], [here[:1]]) or (biases and linears is not None and not linears[name][1]):
        return f"has a bias {list(biases[0])}, which the layer cannot take"
    return ""


def read_adapters(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], places: Mapping[str, tuple[str, str]], where: str
) -> dict[str, dict[str, Adapter]]:
    """Adapters by component and layer. `settings`: PEFT's, by component ("transformer.r"), where a file has them: a
    layer without an alpha of its own and without settings has its rank. UserError: they do not agree."""
    groups = group_tensors(weights, where)
    components: dict[str, dict[str, Adapter]] = {}
    for layer, (component, name) in places.items():
        tensors = {role: weights[one] for role, one in groups[layer].items()}
        tensors = {role: t.bfloat16() if t.element_size() == 1 else t for role, t in tensors.items()}  # fp8 fits in
        components.setdefault(component, {})[name] = _adapter(tensors, settings, layer, component, where)
    return components


def _adapter(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], layer: str, component: str, where: str
) -> Adapter:
    bias = tensors.get("bias")
    if (whole := tensors.get("diff")) is not None:
        out, into = whole.shape
        one = torch.eye(min(out, into), dtype=whole.dtype)
        return Adapter(*((whole, one) if out <= into else (one, whole)), alpha=float(min(out, into)), bias=bias)
    a, b = tensors["A"], tensors["B"]
    if "alpha" in tensors:
        alpha = tensors["alpha"].item()
    else:
        alpha = _said_alpha(len(a), settings, bare_name(layer), component, where)
    if not math.isfinite(alpha):
        raise UserError(f"lora {where}: alpha {alpha} of {layer} is no number; it is damaged")
    scale = alpha / len(a)
    if "scaled bias" in tensors:  # PEFT's own, which it scales as b
        bias = tensors["scaled bias"].float() * scale
    if bias is not None:
        b, alpha = b.float() * scale, float(len(a))
    return Adapter(a, b, alpha, bias)


def _said_alpha(rank: int, settings: Mapping[str, Any], name: str, component: str, where: str) -> float:
    said, alpha = (settings.get(f"{component}.{key}") for key in ("r", "lora_alpha"))
    if said is None and alpha is None:
        return float(rank)
    for key, value in settings.items():  # use_dora, use_rslora ...: they change what the weights mean
        if key.startswith(f"{component}.use_") and value:
            raise UserError(f"lora {where}: has {key}; plain LoRA alone is loaded")
    said = _pattern(settings, component, "rank", name, said, where)
    alpha = _pattern(settings, component, "alpha", name, alpha, where)
    if said != rank:
        raise UserError(f"lora {where}: says rank {said}, its weights have [{rank}]; it is damaged")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"lora {where}: alpha {alpha!r} is no number; it is damaged")
    return float(alpha)


def _pattern(settings: Mapping[str, Any], component: str, kind: str, name: str, usual: Any, where: str) -> Any:
    """Read what settings say of a layer: by PEFT's rank_pattern or alpha_pattern, else what is `usual`."""
    patterns = settings.get(f"{component}.{kind}_pattern")
    if not patterns:
        return usual
    from peft.utils.other import get_pattern_key

    try:
        return patterns.get(get_pattern_key(patterns.keys(), name), usual)
    except re.error as error:
        raise UserError(f"lora {where}: {component}.{kind}_pattern has no regular expression ({error})") from None


def told_changes(weights: Mapping[str, Tensor], left: Iterable[str]) -> str:
    """Say which tensors change something and are left all the same; "" if none do."""
    changing = [name for name in left if weights[name].float().any()]  # fp8 knows no any
    what = "change no linear layer by low rank and are left out"
    return f"{len(changing)} of its tensors ({changing[0]} ...) {what}" if changing else ""


def peft_settings(adapters: Mapping[str, Adapter]) -> dict[str, Any]:
    """Arguments of PEFT's LoraConfig for these layers, as plain JSON."""
    rank, alpha = (
        Counter(values).most_common(1)[0][0]
        for values in ([one.rank for one in adapters.values()], [one.alpha for one in adapters.values()])
    )
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{re.escape(name)}": one.rank for name, one in adapters.items() if one.rank != rank},
        "alpha_pattern": {f"^{re.escape(name)}": one.alpha for name, one in adapters.items() if one.alpha != alpha},
        "target_modules": sorted(adapters),
        "lora_bias": any(one.bias is not None for one in adapters.values()),
    }


def peft_weights(adapters: Mapping[str, Adapter]) -> dict[str, Tensor]:
    """Tensors as PEFT names them; where one layer changes its bias, all have one."""
    biased = peft_settings(adapters)["lora_bias"]
    weights: dict[str, Tensor] = {}
    for name, one in adapters.items():
        weights |= {f"{name}.lora_A.weight": one.a, f"{name}.lora_B.weight": one.b}
        if biased:
            weights[f"{name}.lora_B.bias"] = one.b.new_zeros(len(one.b)) if one.bias is None else one.bias
    return weights

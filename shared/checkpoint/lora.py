"""LoRA with PEFT: low-rank adapters on linear layers of the transformer and of the control network.

Training: `add_lora` before the optimizer is made, `base_weights` and `lora_weights` of the state dict, `save_lora`.
Sampling: `LoraMixin` gives a pipeline `load_lora_weights`, `set_adapters`, `fuse_lora` ... as diffusers has them."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.loaders import PeftAdapterMixin
from diffusers.loaders.lora_base import LoraBaseMixin
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shared.checkpoint.lora_export import lora_tensors
from shared.checkpoint.lora_file import COMPONENTS, FILE, lora_file, read_header, shapes
from shared.checkpoint.lora_layout import group_tensors, readings
from shared.checkpoint.lora_weights import (
    Linears,
    Places,
    find_places,
    peft_settings,
    peft_weights,
    read_adapters,
    told_changes,
)
from shared.utils.errors import UserError
from shared.utils.files import replacing_folder
from shared.utils.finite import check_tensors
from shared.utils.progress import quiet_loading
from shared.utils.rng import derive

ADAPTER = "default"  # the name of what is trained
#: Regular expressions on whole names, "transformer.blocks.0.video.attn1.to_q"; CogVideoX's blocks are a video's.
PRESETS = {
    "attention": r"transformer\.(blocks\.\d+\.(video|audio)|transformer_blocks\.\d+)\.attn[12]\.to_(q|k|v|out\.0)",
    "cross-modal": r"transformer\.blocks\.\d+\.fusion\..+",
    "video": r"transformer\.(blocks\.\d+\.video|transformer_blocks\.\d+)\..+",
    "audio": r"transformer\.blocks\.\d+\.audio\..+",
    "control": r"control\..+",
}


class LoraSettings(Protocol):
    """What a training configuration says of adapters; `alpha` None is `rank`, which makes the scale 1."""

    rank: int
    alpha: float | None
    dropout: float
    targets: list[str]


def add_lora(transformer: nn.Module, control: nn.Module | None, settings: LoraSettings, seed: int) -> None:
    """Add adapters, which learn, to the layers in `settings.targets`. UserError: no such layer, or too small a one."""
    from peft import LoraConfig  # and with it every kind of adapter: sampling needs none of them

    models = {"transformer": transformer, "control": control}
    for component, layers in target_layers(models, settings.targets).items():
        model: Any = models[component]
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        for name, layer in layers.items():
            if settings.rank > min(layer.in_features, layer.out_features):
                size = f"{layer.out_features}x{layer.in_features}"
                raise UserError(f"lora.rank: {settings.rank} exceeds a side of {component}.{name} ({size}); lower it")
        values = {"r": settings.rank, "lora_alpha": _alpha(settings), "lora_dropout": settings.dropout}
        torch.manual_seed(derive(seed, "lora", component))  # PEFT draws from torch's own generator
        model.add_adapter(LoraConfig(**values, target_modules=list(layers)), ADAPTER)
        for weight in learning:  # PEFT has frozen them
            weight.requires_grad_(True)


def seed_dropout(objective: nn.Module, seed: int) -> None:
    """Draw the adapters' dropout anew for each batch, from its `step` and `ids`: a resumed run is equal to the bit."""

    def draw(_: nn.Module, args: tuple[Any, ...]) -> None:
        torch.manual_seed(derive(seed, "lora", "dropout", args[0].step, *args[0].ids))

    objective.register_forward_pre_hook(draw)


def target_layers(models: Mapping[str, nn.Module | None], targets: list[str]) -> dict[str, dict[str, nn.Linear]]:
    """Find the linear layers that `targets` names, by component and name. UserError as `add_lora`."""
    chosen: dict[str, dict[str, nn.Linear]] = {}
    for target in targets:
        try:
            pattern = re.compile(PRESETS.get(target, target))
        except re.error as error:
            raise UserError(f"lora.targets: {target!r} is no preset and no regular expression: {error}") from None
        matched = False
        for component, model in models.items():
            layers = linear_layers(model).items()
            if hits := {name: layer for name, layer in layers if pattern.fullmatch(f"{component}.{name}")}:
                if not isinstance(model, PeftAdapterMixin):
                    raise UserError(f"lora.targets: {target!r}: {type(model).__name__} takes no adapters")
                chosen.setdefault(component, {}).update(hits)
                matched = True
        if not matched:
            what = f"{target!r} names no linear layer of this model; give {', '.join(PRESETS)}"
            advice = r"or a regular expression on whole names, as transformer\.blocks\.\d+\.video\.ffn\..+"
            raise UserError(f"lora.targets: {what}, {advice}")
    return chosen


def linear_layers(model: nn.Module | None) -> dict[str, nn.Linear]:
    """List the model's own linear layers by name, whether they carry adapters or not."""
    layers = {
        name: module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        for name, module in ([] if model is None else model.named_modules())
        if ".base_layer" not in name and ".lora_" not in name
    }
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}


def base_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a state dict with adapters as it was without them."""
    return {name.replace(".base_layer.", "."): value for name, value in weights.items() if ".lora_" not in name}


def lora_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep what `base_weights` leaves out, by the names that files have: "transformer....to_q.lora_A.weight"."""
    return {name.replace(f".{ADAPTER}.", "."): value for name, value in weights.items() if ".lora_" in name}


def adapter_settings(settings: LoraSettings) -> dict[str, Any]:
    """Say what a file says of adapters trained so, by component."""
    values = {"r": settings.rank, "lora_alpha": _alpha(settings)}
    return {f"{component}.{key}": value for component in COMPONENTS for key, value in values.items()}


def save_lora(
    weights: Mapping[str, Tensor], folder: Path, card: str, settings: LoraSettings, dtype: torch.dtype | None = None
) -> None:
    """Write the adapters among `weights` (a state dict), their settings and a card, as diffusers' LoRA; all or none."""
    adapters = lora_weights(weights)
    places = {layer: readings(layer)[0] for layer in group_tensors(adapters, str(folder))}
    parts = read_adapters(adapters, adapter_settings(settings), places, str(folder))
    tensors, header = lora_tensors(parts, "ours", str(folder), dtype)
    with replacing_folder(folder) as partial:
        save_file(tensors, partial / FILE, metadata=header)
        (partial / "README.md").write_text(card, encoding="utf-8")


def lora_card(card: str, settings: LoraSettings, base: str) -> str:
    """Markdown for a folder of adapters; `card`: of the run that made them (`shared.training.card`)."""
    _, table, about = card.partition("| | |\n")
    return f"""---
library_name: diffusers
tags: [lora, audio-video, cross-modal-context-learning]
---
# LoRA adapters

Rank {settings.rank}, alpha {_alpha(settings)}; on {", ".join(settings.targets)}.
They change the checkpoint `{base}` and fit no other model:

```python
pipeline = CCLPipeline.from_pretrained("{base}")
pipeline.load_lora_weights("FOLDER")
```

{table + about if table else card}"""


def _alpha(settings: LoraSettings) -> float:
    return settings.rank if settings.alpha is None else settings.alpha


class LoraMixin(LoraBaseMixin):
    """`load_lora_weights`, `set_adapters`, `fuse_lora`, `unfuse_lora`, `unload_lora_weights` ... of a pipeline.
    As in diffusers, adapters that are loaded act at once, instead of earlier ones; `set_adapters` chooses several."""

    transformer: Any

    @property
    def _lora_loadable_modules(self) -> list[str]:
        return [name for name in COMPONENTS if isinstance(getattr(self, name, None), PeftAdapterMixin)]

    def load_lora_weights(  # type: ignore[override]
        self, source: str | Path | Mapping[str, Tensor], adapter_name: str | None = None,
        weight_name: str | None = None, settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Adapters of any layout (docs/lora.md) from a folder or a safetensors file, or from a dict of such weights
        with its `settings`; a Wan's go onto the video stream. `adapter_name` (default: default_0, default_1 ...) is for
        `set_adapters`, `weight_name` a file of several. Warns of tensors that are no low-rank change. The pipeline is
        as before on UserError: no LoRA weights, a pickle, a name that is taken, or misfit layers."""
        self._refuse_low_memory("load_lora_weights")
        if isinstance(source, Mapping):
            weights, where, settings = dict(source), "weights", settings or {}
            places = self._places({name: tuple(value.shape) for name, value in weights.items()}, where)
        else:
            file = lora_file(source, weight_name)
            where, settings = str(file), read_header(file)
            places = self._places(shapes(file), where)
            weights = load_file(file)
        check_tensors(weights, f"lora {where}")
        taken = {name for names in self.get_list_adapters().values() for name in names}
        chosen = adapter_name or next(name for i in range(len(taken) + 1) if (name := f"default_{i}") not in taken)
        if chosen in taken:
            raise UserError(f"lora {where}: there are adapters of the name {chosen!r}; give another adapter_name")
        parts = read_adapters(weights, settings, places.layers, where)  # all is checked before anything is loaded
        if left := told_changes(weights, places.left):
            warnings.warn(f"lora {where}: {left}", stacklevel=2)
        for component, part in parts.items():
            options = {"adapter_name": chosen, "metadata": peft_settings(part), "_pipeline": self}
            with quiet_loading():
                getattr(self, component).load_lora_adapter(peft_weights(part), prefix=None, **options)
        self.set_adapters(chosen)

    def _places(self, tensors: Mapping[str, tuple[int, ...]], where: str) -> Places:
        """Find the layer of this pipeline that each layer of a file changes. UserError unless all fit."""
        models: dict[str, Linears] = {}
        for component in self._lora_loadable_modules:
            layers = linear_layers(getattr(self, component)).items()
            models[component] = {
                name: ((one.out_features, one.in_features), one.bias is not None) for name, one in layers
            }
        return find_places(tensors, models, where)

    def fuse_lora(self, components: list[str] | None = None, *args: Any, **options: Any) -> None:
        """Add the active adapters to the weights, as diffusers does, of all `components` (None); once, or UserError."""
        self._refuse_low_memory("fuse_lora")
        if not any(self.get_list_adapters().values()):
            raise UserError("fuse_lora: no adapters are loaded; load_lora_weights comes first")
        if self.num_fused_loras:
            raise UserError(f"fuse_lora: {', '.join(sorted(self.fused_loras))} is fused already; unfuse_lora first")
        chosen = self._lora_loadable_modules if components is None else components
        super().fuse_lora(chosen, *args, **options)

    def unfuse_lora(self, components: list[str] | None = None, **_: Any) -> None:
        """Take them out of the weights again: what they were, but for rounding."""
        super().unfuse_lora(self._lora_loadable_modules if components is None else components)

    def unload_lora_weights(self) -> None:
        """Remove all adapters: the base model, to the bit, unless they were fused; what is fused stays."""
        super().unload_lora_weights()
        self._merged_adapters: set[str] = set()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Raise UserError while adapters are loaded: a checkpoint is whole weights."""
        if any(self.get_list_adapters().values()):
            raise UserError(
                "save_pretrained: adapters are loaded; unload_lora_weights first, after fuse_lora to keep them"
            )
        super().save_pretrained(*args, **kwargs)  # type: ignore[misc]

    def _refuse_low_memory(self, what: str) -> None:
        if getattr(self, "_memory", "fast") != "fast":  # of `shared.checkpoint.offload.MemoryMixin`
            raise UserError(f"{what}: comes before set_memory; load the pipeline again")

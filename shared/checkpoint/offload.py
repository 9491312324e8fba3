"""One switch between speed and GPU memory for sampling, `pipeline.set_memory(level)` (docs/memory.md).
torch is imported on use: scripts ask for `Level` before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

from shared.checkpoint.folder import OURS, package_of
from shared.utils.errors import UserError

if TYPE_CHECKING:
    import torch

Level = Literal["fast", "balanced", "low"]
LEVELS: tuple[Level, ...] = get_args(Level)
ENTRIES = ("encode", "decode")  # by which a pipeline uses its codecs and encoders


class MemoryMixin:
    """`set_memory` of a pipeline; stands before `DiffusionPipeline` among a class's bases."""

    #: Components that every step runs: kept in fp8 and offloaded layer by layer at level low.
    _denoisers: tuple[str, ...] = ("transformer",)
    _memory: Level = "fast"
    components: dict[str, Any]

    def set_memory(self, level: Level, device: torch.device | str) -> list[str]:
        """Put a pipeline that was loaded to the CPU to work on `device`; adapters are loaded, or fused, before.
        - fast: all components on the device.
        - balanced: one component at a time, clips decoded one by one. The output is fast's, to the bit for one clip.
        - low: denoisers' linear layers are kept in fp8 (e4m3), computed with in the pipeline's dtype; a layer of theirs
          or of the text encoder is on the device only while it runs, a codec while it works, and it works in tiles.
        Returns what of this has no meaning on `device`, a line each: on a CPU there is nothing to offload from.
        UserError: an unknown level, or a pipeline that is set to another one already."""
        import torch

        if level not in LEVELS:
            raise UserError(f"memory {level!r}: choose one of {', '.join(LEVELS)}")
        if self._memory != "fast":
            raise UserError(f"memory {level}: this pipeline is set to {self._memory} already; load it again")
        device, self._memory = torch.device(device), level
        if level == "fast":
            self.to(device)  # type: ignore[attr-defined]
            return []
        (self._balance if level == "balanced" else self._lower)(device)
        balanced, low = (
            "the clips of a batch are decoded one by one",
            "weights are kept in fp8 and codecs work in tiles",
        )
        said = f"memory {level}: on a CPU there is nothing to offload from; {balanced if level == 'balanced' else low}"
        return [said] if device.type == "cpu" else []

    def _balance(self, device: torch.device) -> None:
        for model in (model for codec in self._codecs() for model in codec.children() if hasattr(model, "use_slicing")):
            model.use_slicing = True
        if device.type != "cpu":
            offload_components(self, device)

    def _lower(self, device: torch.device) -> None:
        import torch

        for codec in self._codecs():
            if hasattr(codec, "low_memory"):
                codec.low_memory()
        for name in self._denoisers:
            keep_in_fp8(self.components[name])
        if device.type != "cpu":
            for name, part in self.components.items():
                if name in (*self._denoisers, "text_encoder"):
                    offload_layers(part, device)
                elif isinstance(part, torch.nn.Module):
                    offload_while_idle(part, device)

    def _codecs(self) -> list[Any]:
        return [part for name, part in self.components.items() if name.endswith("_codec") and part is not None]


def offload_components(pipeline: Any, device: torch.device) -> None:
    """Offload by component as diffusers does, for entries other than `forward` too.
    Those without parameters, which are small, stay on the device: accelerate asks a first parameter where they are."""
    from diffusers.utils.accelerate_utils import apply_forward_hook
    from torch import nn

    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    bare = [name for name, part in parts.items() if not list(part.parameters())]
    order = pipeline.model_cpu_offload_seq.split("->")
    pipeline.model_cpu_offload_seq = "->".join(name for name in order if name not in bare)
    pipeline._exclude_from_cpu_offload = [*pipeline._exclude_from_cpu_offload, *bare]
    pipeline.enable_model_cpu_offload(device=device)
    for part, entry in product(parts.values(), ENTRIES):
        if hasattr(part, "_hf_hook") and hasattr(part, entry):
            # looks for the hook when it is called: diffusers renews them after each sample
            setattr(part, entry, apply_forward_hook(getattr(type(part), entry)).__get__(part))


def keep_in_fp8(model: Any) -> None:
    """Store linear layers in fp8 and compute in the model's dtype (diffusers' layerwise casting); embeddings, norms,
    modulation and the last layer stay as they are."""
    import torch

    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=model.dtype)


def offload_layers(model: Any, device: torch.device) -> None:
    """Layers wait in main memory, pinned, and are on `device` only while they run: diffusers' group offload.
    By leaf, and none is fetched ahead: guidance runs other layers in each pass. What a module of ours holds itself
    (context tokens, modulation rows) stays on the device: such modules are entered by other methods than `forward`."""
    from diffusers.hooks import apply_group_offloading
    from torch import nn

    use_stream = device.type == "cuda"
    apply_group_offloading(model, onload_device=device, offload_type="leaf_level", use_stream=use_stream)
    for module in model.modules():
        if (registry := getattr(module, "_diffusers_hook", None)) is None:
            continue
        for hook in ("lazy_prefetch_group_offloading", "layer_execution_tracker"):
            registry.remove_hook(hook, recurse=False)
        leaf = isinstance(module, nn.Linear | nn.Conv3d | nn.Conv1d | nn.Embedding)
        if package_of(type(module).__module__) in OURS and not leaf:
            registry.remove_hook("group_offloading", recurse=False)
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                tensor.data = tensor.data.to(device)


def offload_while_idle(part: Any, device: torch.device) -> None:
    """`part` is on `device` only while it encodes or decodes."""

    @contextmanager
    def on_device() -> Iterator[None]:
        part.to(device)
        try:
            yield
        finally:
            part.to("cpu")

    for entry in ENTRIES:
        if hasattr(part, entry):
            setattr(part, entry, on_device()(getattr(part, entry)))  # a context is entered anew at each call

"""What every codec around a model of diffusers shares: loading from that library's folders, saving, memory."""

from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from safetensors import SafetensorError
from torch import Tensor

from shared.utils import hub
from shared.utils.errors import UserError
from shared.utils.folder_check import check_folder
from shared.utils.portable import settle


class LibraryCodec(ModelMixin):
    """A codec whose network is a model of diffusers, and whose folder is that library's own.
    A subclass names the class (`kind`), which reads what is saved here, and the folder in which public pipelines keep
    it (`place`). Frozen, in evaluation mode; sound and pixels are float32 outside, whatever the model's dtype."""

    kind: ClassVar[Any]
    place: ClassVar[str] = "vae"
    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.requires_grad_(False).eval()

    def __init_subclass__(cls) -> None:
        """Let `encode` and `decode` fetch a model that is offloaded, and take no gradient."""
        super().__init_subclass__()
        for entry in {"encode", "decode"} & vars(cls).keys():
            setattr(cls, entry, apply_forward_hook(torch.no_grad()(getattr(cls, entry))))

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """Load the codec in a folder, or of a name on the hub: there, or in its `place`; safetensors only.
        `options` are diffusers' (torch_dtype: float32). UserError: no such model, bad weights, or a wrong config."""
        return cls._around(source, load_library_model((cls.kind,), source, ("", cls.place), **options))

    @classmethod
    def library_models(cls, folder: Path) -> list[tuple[Any, Path]]:
        """Models of the library in a folder that `save_pretrained` wrote, and where (for `check_folder`)."""
        return [(cls.kind, folder)]

    @classmethod
    def _around(cls, source: str | Path, *models: Any) -> Self:
        """Make the codec of loaded models; what it refuses is said with the source's name."""
        try:
            return cls(*models)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    def _encoded(self, clip: Tensor) -> Tensor:
        """Find the mode of the model's posterior, float32, computed in the model's dtype."""
        with torch.autocast(self.device.type, enabled=False):
            return self.model.encode(clip.to(self.device, self.dtype)).latent_dist.mode().float()

    def _decoded(self, latents: Tensor) -> Tensor:
        """Run the decoder on raw latents, in the model's dtype."""
        with torch.autocast(self.device.type, enabled=False):
            return self.model.decode(latents.to(self.device, self.dtype)).sample

    def save_pretrained(self, folder: str | Path, max_shard_size: int | str = "10GB", **_: Any) -> None:
        """Write the model's own folder: config.json and safetensors."""
        self.model.save_pretrained(str(folder), safe_serialization=True, max_shard_size=max_shard_size)
        settle(Path(folder))

    def low_memory(self, on: bool = True) -> None:
        """Trade time for memory: clips of a batch one by one, long or large ones in tiles (see docs/codecs.md)."""
        for model, switch in product(self.children(), ("use_slicing", "use_tiling")):
            if hasattr(model, switch):
                setattr(model, switch, on)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever `mode`."""
        return super().train(False)


def load_library_model(kinds: tuple[Any, ...], source: str | Path, places: tuple[str, ...], **options: Any) -> Any:
    """Load a model of one of diffusers' classes `kinds` from the first of the `places` (subfolders; "" is the source
    itself) that holds a configuration. `options` and errors are those of `LibraryCodec.from_pretrained`."""
    named = {kind.__name__: kind for kind in kinds}
    names, where = " or ".join(named), hub.hub_options(options)
    wanted = f"a folder in which diffusers saved {names}, or a hub id, is needed"
    place, config = next(iter(hub.find_configs(source, names, places, wanted, **where).items()))
    if (found := config.get("_class_name")) not in named:
        raise UserError(f"{source}: holds {found}, not {names}; {wanted}")
    options = {"torch_dtype": torch.float32} | options | {"use_safetensors": True}
    folder = hub.local_folder(source, [place], **where) / place
    check_folder(named[found], folder, f"{source}: ")
    try:
        return named[found].from_pretrained(folder, **options)
    except (OSError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        reason = hub.first_line(error).partition(". ")[0]
        raise UserError(f"{source}: {found} cannot be loaded ({reason}); {wanted}") from error

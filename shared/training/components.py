"""What of a run is not trained, as its configuration names it: codecs, text encoder, encoders of tracks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor

from shared.checkpoint.folder import TRUSTED, check_saveable, package_of
from shared.checkpoint.registry import ComponentSource, find_component, load_component
from shared.codecs import Codecs
from shared.encoders import HashedWords, TextEncoder
from shared.encoders.audio import FrameFeatures, load_track_encoders
from shared.encoders.cache import CachedText
from shared.training.inputs import CODECS, component_source, fitted_codecs
from shared.utils.config import TrainConfig
from shared.utils.distributed import World, gather
from shared.utils.errors import UserError
from shared.utils.progress import bar as progress_bar


@dataclass
class UnloadedTextEncoder:
    """Stands for a text encoder that is in nobody's memory any more."""

    dim: int
    max_length: int

    def encode(self, prompts: list[str]) -> Tensor:
        """UserError: it is asked for what the cache should have."""
        raise UserError(f"the text cache has lost {prompts[0][:80]!r}; start again, which encodes what is missing")


class LazyTextEncoder:
    """The configured text encoder, which is loaded when it is asked for and stays with nobody."""

    def __init__(self, source: ComponentSource | None, dtype: torch.dtype = torch.float32) -> None:
        """Without a `source` it is `HashedWords`."""
        self.source, self.dtype = source, dtype
        self.dtype_name = "bf16" if dtype == torch.bfloat16 else "fp32"  # as scripts/encode.py has it

    @property
    def is_embedded(self) -> bool:
        """Whether it is `HashedWords`, which costs nothing to keep."""
        return self.source is None or self.source.kind.endswith(":HashedWords")

    @property
    def dim(self) -> int:
        """Width of the embeddings, known without loading it."""
        return self._words.dim if self.source is None else self.source.width

    def load(self) -> TextEncoder:
        """On the CPU, in evaluation mode. UserError if it cannot be read."""
        if self.source is None or self.is_embedded:
            return self._words
        return cast(TextEncoder, load_component(self.source, torch_dtype=self.dtype))

    def learn(self, texts: Collection[str] | None) -> None:
        """Tell `HashedWords` the captions of a training, so that it warns of other words in sampling; None: unknown."""
        if self.source is None:
            self._words.register_to_config(vocabulary=[])
        if self.is_embedded:
            self._words.learn(texts)

    def cached(self, texts: Collection[str], folder: Path, world: World) -> TextEncoder:
        """Cache these texts on the disk; rank 0 encodes what is missing, on its device, and keeps no encoder."""
        if self.is_embedded:
            return self.load()
        cache = None
        if world.is_main:
            encoder: Any = self.load()
            cache = CachedText(encoder.to(world.device), folder)
            for text in progress_bar(sorted(texts), desc="encoding texts", unit="text"):
                cache.encode([text])
            cache.encoder = UnloadedTextEncoder(cache.dim, cache.max_length)
        return next(cached for cached in gather(cache) if cached is not None)

    @cached_property
    def _words(self) -> HashedWords:
        return HashedWords() if self.source is None else cast(HashedWords, load_component(self.source))


@dataclass(frozen=True)
class Components:
    """The components themselves: both codecs, the text encoder, and by track the encoder of its sound."""

    codecs: Codecs
    text: LazyTextEncoder
    encoders: dict[str, FrameFeatures]

    @classmethod
    def load(cls, config: TrainConfig, device: torch.device | str = "cpu", codecs: Sequence[Any] | None = None) -> Self:
        """Codecs (those given, or those named or fitted) and encoders on `device`. UserError if one cannot be read, or
        none is named and none was fitted."""
        chosen = config.components
        if codecs is None:
            found = [component_source(config, name) or find_component(name, fitted_codecs(config)) for name in CODECS]
            codecs = [load_component(source).to(device) for source in found]
        for codec in codecs:
            if chosen is not None and chosen.low_memory and hasattr(codec, "low_memory"):
                codec.low_memory()
        bf16 = chosen is not None and chosen.text_dtype == "bf16"
        text = LazyTextEncoder(component_source(config, "text_encoder"), torch.bfloat16 if bf16 else torch.float32)
        specs = config.tracks.encoders if config.control is not None else {}
        return cls(Codecs(*codecs), text, load_track_encoders(specs, device))

    def check_saveable(self) -> None:
        """Raise UserError for one of a user's own class that cannot be saved with a checkpoint."""
        parts: dict[str, Any] = {f"tracks.encoders.{track}": encoder for track, encoder in self.encoders.items()}
        parts |= {"components.video_codec": self.codecs.video, "components.audio_codec": self.codecs.audio}
        if self.text.source is not None and package_of(self.text.source.kind.partition(":")[0]) not in TRUSTED:
            parts["components.text_encoder"] = self.text.load()
        for name, part in parts.items():
            check_saveable(name, part)

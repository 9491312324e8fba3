"""A run's models without values: those of a configuration, of any size, and what a pass of a task runs of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ccl.routing import Task
from ccl.training.build import JointAdapter
from ccl.transformer import StreamInput
from mtv.control import TRACKS, TrackFeatures
from shared.encoders.audio import LogMel
from shared.training.components import Components
from shared.training.flops import StepCost, known_peak, step_cost, trained_share
from shared.training.inputs import component_source
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

__all__ = ["MetaModels", "Sound", "StepCost", "forecast_components", "known_peak", "layers_of", "step_cost"]

#: Width of embeddings of the embedded codecs and words, and (window, layers, width) of wav2vec2's and AST's features.
EMBEDDED = {"video": 48, "audio": 64, "text": 128}
FEATURES = {"wav2vec2": (5, 12, 768), "ast": (5, 12, 768)}


class Sound(NamedTuple):
    """Shape of the features of a track."""

    window: int
    layers: int
    dim: int


def layers_of(config: TrainConfig) -> tuple[int, int]:
    """Count the blocks of a stream, and in how many of them the control network acts once."""
    return config.model["video"]["num_layers"], (config.control or {}).get("injection_every", 1)


def forecast_components(config: TrainConfig, temporal_stride: int = 4) -> Components:
    """Say what is known of a run's components before they are there: channels and widths, of those that the
    configuration names and that are found, else of its `model`, else of the embedded ones."""
    names, widths = {"video": "video_codec", "audio": "audio_codec", "text": "text_encoder"}, dict[str, int]()
    for name, component in names.items():
        key, stream = ("text_dim", "video") if name == "text" else ("in_channels", name)
        try:
            source = component_source(config, component)
        except UserError:
            source = None
        said = config.model.get(stream, {}).get(key, EMBEDDED[name])
        widths[name] = said if source is None else source.width
    video = SimpleNamespace(latent_channels=widths["video"], temporal_stride=temporal_stride)
    codecs = SimpleNamespace(video=video, audio=SimpleNamespace(latent_channels=widths["audio"]))
    encoders: Mapping[str, Any] = {
        track: Sound(*FEATURES[kind]) if (kind := spec.partition(":")[0]) in FEATURES else LogMel()
        for track, spec in config.tracks.encoders.items()
    }
    known: Any = (codecs, SimpleNamespace(dim=widths["text"]), encoders)
    return Components(*known)


class MetaModels(nn.Module):
    """`transformer` and `control` of a joint run on the meta device, frozen and with adapters as in training."""

    def __init__(self, config: TrainConfig, components: Components, depth: int | None = None) -> None:
        """`depth`: of so many blocks; the streams then begin anew, whatever `init` names."""
        super().__init__()
        if depth is not None:
            streams = {name: {**config.model[name], "num_layers": depth} for name in ("video", "audio")}
            config = config.model_copy(update={"model": config.model | streams, "init": None, "init_streams": None})
        with torch.device("meta"):
            models = JointAdapter(config, components)
        self.transformer, self.control = models.transformer, models.control
        self.components, self.stride = components, components.codecs.video.temporal_stride
        self.train()

    @property
    def patch(self) -> tuple[int, int]:
        """Video latents along the sides of a token."""
        _, height, width = self.transformer.video_stream.config.patch_size
        return height, width

    @property
    def learns(self) -> float:
        """Share of the transformer's weights that learn."""
        return trained_share(self.transformer)

    def loss(self, task: Task, video: StreamInput, audio: StreamInput) -> Tensor:
        """Run a pass of `task`, and end it in one number."""
        hook = None
        if task is Task.MTV:
            assert self.control is not None, "task mtv has a control network"
            hook = self.control(self._tracks(len(video.latents), video.latents.shape[2]), video.sigma)
        outputs = self.transformer(task.route, video, audio, video_control=hook)
        return torch.stack([part.float().square().mean() for part in outputs if part is not None]).sum()

    def _tracks(self, batch: int, latents: int) -> TrackFeatures:
        assert self.control is not None, "it is asked of task mtv"
        frames, speakers = 1 + (latents - 1) * self.stride, self.control.config.speakers
        sizes = [(one.window, one.layers, one.dim) for one in map(self.components.encoders.get, TRACKS) if one]
        rows = [(batch, speakers, frames), (batch, frames), (batch, frames)]
        made = [torch.empty(*row, *size, device="meta") for row, size in zip(rows, sizes, strict=True)]
        return TrackFeatures(made[0], made[1], made[2])

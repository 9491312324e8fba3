"""The model of a training on CogVideoX alone, with all that belongs into its checkpoint; no data is needed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ccl.training.build import (
    encoder_parts,
    initialised,
    round_weights,
    with_weights,
)  # fmt: skip
from mtv.cogvideox.loading import Frozen, load_transformer
from mtv.cogvideox.training import control_for, freeze
from mtv.control import TRACKS
from mtv.curriculum import BackboneConfig
from mtv.pipeline import MTVPipeline
from shared.checkpoint.folder import save_checkpoint
from shared.encoders.audio import FrameFeatures, audio_features
from shared.training.trainer import Weights
from shared.utils.config import TrainConfig


class CogVideoXAssembly:
    """`transformer` and `control` with the weights that training starts from; `frozen` parts and track `encoders`.

    The weights that they have come to are given to `pipeline` and `save` by the names of `EpsilonObjective`'s state
    dict: "transformer...." and "control....".
    """

    def __init__(
        self,
        config: BackboneConfig,
        frozen: Frozen | None = None,
        encoders: dict[str, FrameFeatures] | None = None,
        sounding: Callable[[str], list[Tensor]] | None = None,
    ) -> None:
        """`frozen`, `encoders`: loaded where none are given. `sounding`: what a new control network standardises
        features by. Raises UserError for a part that cannot be read or does not fit."""
        self.config = config
        self.frozen = frozen or Frozen.load(config.backbone)
        self.encoders = encoders or track_encoders(config)
        start = Path(config.init or config.backbone)
        self.transformer = load_transformer(start)
        stride = self.frozen.video_codec.temporal_stride
        self.control = control_for(self.transformer, self.encoders, config.control or {}, stride, config.seed)
        if (start / "control").is_dir():
            self.control = initialised(self.control, start / "control")
        elif sounding is not None:
            self.control.standardise({track: sounding(track) for track in TRACKS})
        freeze(self.transformer, self.control, config.trainable)

    def pipeline(self, weights: Weights) -> MTVPipeline:
        """A pipeline of the given weights (the average, where there is one), apart from those in training."""
        data = self.config.data
        return MTVPipeline(
            with_weights(self.transformer, weights, "transformer."),
            copy.deepcopy(self.frozen.video_codec).cpu(),
            self.frozen.text_encoder,
            copy.deepcopy(self.frozen.scheduler),
            with_weights(self.control, weights, "control."),
            **encoder_parts(self.encoders),
            fps=data.fps,
            height=data.size[0],
            width=data.size[1],
        )

    def save(self, weights: Weights, folder: str | Path, card: str) -> None:
        """Write the checkpoint folder with its model card, the weights as `train.export_dtype` says."""
        pipeline: Any = self.pipeline(weights)
        if self.config.train.export_dtype == "bf16":
            round_weights(pipeline.transformer, pipeline.control)
        save_checkpoint(pipeline, folder, card, self.config.train.shard_size)


def track_encoders(config: TrainConfig) -> dict[str, FrameFeatures]:
    """The encoder of each track's features; tracks of one specification share one."""
    specs = config.tracks.encoders
    named = {spec: audio_features(spec) for spec in sorted(set(specs.values()))}
    return {track: named[specs[track]] for track in TRACKS}

"""CogVideoX as a run sees it (`ccl.training.run.Adapter`): the model with all that belongs into its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtv.cogvideox.loading import (
    check_cogvideox,
    load_codec,
    load_scheduler,
    load_text_encoder,
    load_transformer,
    read_part,
)
from mtv.cogvideox.objective import EpsilonObjective
from mtv.control_training import (
    NonsilentFeatures,
    build_control,
    freeze,
    pipeline_parts,
    sample_clips,
    start_control,
)
from mtv.curriculum import BackboneConfig, CurriculumConfig
from mtv.pipeline import MTVPipeline
from shared.checkpoint.registry import ComponentSource
from shared.codecs import Codecs
from shared.data.manifest import Clip
from shared.encoders.audio import load_track_encoders
from shared.encoders.t5 import T5Text
from shared.nn.clock import LatentClock
from shared.training.card import Progress, model_card
from shared.training.components import Components, LazyTextEncoder
from shared.training.weights import StateDict, export_pipeline
from shared.utils.distributed import World


class NoSound:
    """Stands for an audio codec where no model reads latents of the sound: they are one zero per clip."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate

    def encode(self, audio: Tensor) -> Tensor:
        """[B, 1, N] -> zeros [B, 1, 1]."""
        return audio.new_zeros(len(audio), 1, 1)

    def clock(self, samples: int) -> LatentClock:
        return LatentClock.uniform(1, 1.0)


class LazyT5(LazyTextEncoder):
    """The text encoder of a CogVideoX folder, which is loaded when it is asked for and stays with nobody."""

    def __init__(self, folder: str) -> None:
        width = int(read_part(folder, "text_encoder/config.json")["d_model"])
        super().__init__(ComponentSource("shared.encoders.t5:T5Text", folder, "text_encoder", width))
        self.folder = folder

    def load(self) -> T5Text:
        """On the CPU, in the precision it is stored in. UserError if it cannot be read."""
        return load_text_encoder(self.folder)


class CogVideoXAdapter:
    """`transformer` and `control` with the weights that training starts from; `components`, which are not trained."""

    def __init__(
        self, config: BackboneConfig, components: Components | None = None, features: NonsilentFeatures | None = None
    ) -> None:
        """`components`: loaded where none are given. `features`: what a new control network standardises its tracks by.

        UserError for a part that cannot be read or does not fit.
        """
        self.config, self.components = config, components or load_components(config)
        start = config.init or config.backbone
        self.transformer = load_transformer(start)
        stride = self.components.codecs.video.temporal_stride
        self.control = build_control(
            self.transformer.config, self.components.encoders, stride, config.control or {}, config.seed
        )
        start_control(self.control, start, (), features)
        freeze(self.transformer, self.transformer, self.control, config.trainable)

    @staticmethod
    def check(config: CurriculumConfig, stages: Sequence[BackboneConfig]) -> None:
        """UserError for a backbone that is not whole or does not fit."""
        assert config.backbone is not None, "this adapter is that of a backbone"
        check_cogvideox(config.backbone, config.data.size)

    @staticmethod
    def prepare(config: CurriculumConfig, source: Any, world: World) -> Components:
        """Load the components to the run's device."""
        return load_components(config, world.device)

    @property
    def patch(self) -> int:
        """Video latents along the side of a token."""
        return int(self.transformer.config.patch_size)

    def objective(self) -> nn.Module:
        """Make the epsilon objective over `transformer` and `control`."""
        return EpsilonObjective(self.transformer, self.control, load_scheduler(self.config.backbone), self.config.seed)

    def pipeline(self, weights: StateDict) -> MTVPipeline:
        """Make a pipeline of these weights (the average, where there is one), apart from those in training."""
        parts = pipeline_parts(self.config, self.components, self.transformer, self.control, weights)
        return MTVPipeline(scheduler=load_scheduler(self.config.backbone), **parts)

    def sample(
        self, weights: StateDict, prompts: list[str], clips: list[Clip], stem: Path, device: torch.device
    ) -> None:
        """Write STEM_mtv_I.mp4 of those `clips` that have tracks, which drive their captions."""
        pipeline = self.pipeline(weights).to(device)
        sample_clips(pipeline, clips, self.config, stem.with_name(f"{stem.name}_mtv"))

    def save(self, weights: StateDict, folder: Path, progress: Progress) -> None:
        """Write the checkpoint folder with its model card, the weights as `train.export_dtype` says."""
        card = model_card(
            self.config,
            progress,
            title="Audio-driven video on CogVideoX",
            tags="audio-driven-video, cogvideox",
            use=(
                "Sample it with `python scripts/sample_mtv.py --checkpoint FOLDER`, or read it with\n"
                "`MTVPipeline.from_pretrained(folder)`. The licence of the CogVideoX weights it was made of holds for "
                "it too."
            ),
            rows=f"| made of | `{self.config.backbone}` |\n| last stage | `{Path(self.config.output).name}` |",
        )
        export_pipeline(self.pipeline(weights), folder, card, self.config.train)


def load_components(config: BackboneConfig | CurriculumConfig, device: torch.device | str = "cpu") -> Components:
    """Load what is not trained of the folder `backbone`, and the encoders of tracks."""
    assert config.backbone is not None, "this adapter is that of a backbone"
    audio: Any = NoSound(config.data.sample_rate)
    encoders = load_track_encoders(config.tracks.encoders, device)
    return Components(Codecs(load_codec(config.backbone).to(device), audio), LazyT5(config.backbone), encoders)

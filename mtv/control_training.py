"""Training of the control network, on the joint model and on CogVideoX alike: start, freezing, samples."""

import copy
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtv.control import TRACKS, MSTControlNet, trainable_backbone_parameters
from mtv.pipeline import MTVPipeline
from mtv.tracks import clip_tracks, read_tracks
from shared.data.clip_texts import video_text
from shared.data.manifest import Clip
from shared.data.media import read_audio, write_video
from shared.encoders.audio import FrameFeatures
from shared.nn.parameter_names import part_of
from shared.training.components import Components
from shared.training.weights import StateDict, initialise, with_weights
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError
from shared.utils.rng import derive

#: features(track): [T, window, layers, dim] of a track in clips where it is not silent (`mtv.track_features`).
NonsilentFeatures = Callable[[str], list[Tensor]]


def build_control(
    backbone: Any, encoders: Mapping[str, FrameFeatures], temporal_stride: int, settings: Mapping[str, Any], seed: int
) -> MSTControlNet:
    """Build a network for a video stream, ours or CogVideoX's. UserError for `settings` that do not fit."""
    torch.manual_seed(derive(seed, "control"))
    try:
        return MSTControlNet(  # by name: diffusers' config takes positional values for defaults
            backbone_dim=backbone.num_attention_heads * backbone.attention_head_dim,
            backbone_heads=backbone.num_attention_heads,
            num_blocks=backbone.num_layers,
            tracks={name: (encoder.window, encoder.layers, encoder.dim) for name, encoder in encoders.items()},
            temporal_stride=temporal_stride,
            **settings,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"control: {error}; see configs/model/puppets_control.yaml") from None


def start_control(
    control: MSTControlNet, start: str | None, reinit: Collection[str], features: NonsilentFeatures | None
) -> None:
    """Load `control` of the checkpoint `start` but for `reinit`; new track encoders standardise by `features`."""
    folder, new = Path(start or "") / "control", list(TRACKS)
    if start and folder.is_dir() and "control" not in reinit:
        anew = MSTControlNet.HOLISTIC if "holistic" in reinit else ()
        # what music adds to every clip alike, the biases of the injection, stays: all else was trained with it
        initialise(control, folder, skip=lambda name: name.startswith(anew) and not name.endswith("to_style.bias"))
        new = ["music"] if anew else []
    if features is not None:
        control.standardise({track: features(track) for track in new})


def freeze(
    transformer: nn.Module, video_blocks: nn.Module, control: MSTControlNet | None, parts: Collection[str]
) -> None:
    """Let only `parts` learn: the transformer, what joins its streams, or its video blocks' attention; the control
    network, or music's way. UserError for a transformer of one stream that is to learn what joins two."""
    transformer.requires_grad_("transformer" in parts)
    joining = [weight for name, weight in transformer.named_parameters() if part_of(name) == "fusion"]
    if "fusion" in parts and not joining:
        raise UserError("trainable: fusion is what joins two streams, and this model has none; leave it out")
    for parameter in joining if "fusion" in parts else ():
        parameter.requires_grad_(True)
    learning = list(trainable_backbone_parameters(video_blocks).values()) if "attention" in parts else []
    if control is not None:
        control.requires_grad_("control" in parts)
        learning += control.holistic_parameters() if "holistic" in parts else []
    for parameter in learning:
        parameter.requires_grad_(True)


def pipeline_parts(
    config: TrainConfig, components: Components, transformer: Any, control: MSTControlNet | None, weights: StateDict
) -> dict[str, Any]:
    """Make what our pipelines take: copies of the models with these weights, and what is not trained."""
    first, *others = (components.encoders.get(track) for track in TRACKS)
    effects, music = (None if encoder is first else encoder for encoder in others)  # a shared one is there once
    video_codec: Any = copy.deepcopy(components.codecs.video)
    return {
        "transformer": with_weights(transformer, weights, "transformer."),
        "control": None if control is None else with_weights(control, weights, "control."),
        "video_codec": video_codec.cpu(), "text_encoder": components.text.load(),
        "audio_encoder": first, "effects_encoder": effects, "music_encoder": music,
        "fps": config.data.fps, "height": config.data.size[0], "width": config.data.size[1],
    }  # fmt: skip


def sample_clips(pipeline: MTVPipeline, clips: list[Clip], config: TrainConfig, stem: Path) -> None:
    """Write STEM_I.mp4: each clip's own tracks drive its texts, for up to two seconds; the file carries its sound."""
    pipeline.set_progress_bar_config(desc="validation", leave=False)
    for index, clip in enumerate(clip for clip in clips if clip.tracks):
        rate, end = pipeline.audio_encoder.sample_rate, min(clip.end or math.inf, clip.start + 2)
        paths, others = clip_tracks(clip)
        tracks = read_tracks(paths, *others, fps=config.data.fps, rate=rate, start=clip.start, end=end)
        seed, steps = config.seed + index, config.validation_steps
        output = pipeline(video_text(clip), tracks, seed=seed, num_inference_steps=steps)
        assert output.video is not None, "it is decoded"
        assert clip.audio is not None, "a clip has a sound, its video's own if no other"
        sound = read_audio(clip.audio, rate, True, clip.start, end, clip.audio_track)
        write_video(stem.with_name(f"{stem.name}_{index}.mp4"), output.video[0], output.fps, sound, rate)

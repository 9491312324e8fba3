"""The model of a training configuration, with all that belongs into its checkpoint; no data is needed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from mtv.control import TRACKS, MSTControlNet, trainable_backbone_parameters
from shared.checkpoint.folder import save_checkpoint
from shared.checkpoint.lora import adapter_settings, add_lora, base_weights, lora_card, lora_weights, save_lora
from shared.encoders import TextEncoder
from shared.nn.parameter_names import part_of
from shared.training.components import Components
from shared.training.trainer import Weights
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError
from shared.utils.rng import derive

Model = TypeVar("Model", DualStreamTransformer, MSTControlNet)
#: sounding(track): features [T, window, layers, dim] of a track, in clips where it sounds (`mtv.track_features`).
Sounding = Callable[[str], list[Tensor]]


class Assembly:
    """`transformer` and, where there is one, `control`, with the weights that training starts from; `codecs`.

    The weights that it has come to are given to `pipeline` and `save` by the names of `JointObjective`'s state dict:
    "transformer...." and "control....".
    """

    def __init__(
        self, config: TrainConfig, components: Components | None = None, sounding: Sounding | None = None
    ) -> None:
        """`components`: loaded where none are given. `sounding`: what a new control network standardises features by.

        Raises UserError if a component cannot be read, the settings are none of the model's, or do not fit `init`.
        """
        self.config = config
        self.components = components or Components.load(config)
        self.codecs, self.encoders = self.components.codecs, self.components.encoders
        self.transformer = self._model()
        self.control = self._control(sounding) if config.control is not None else None
        self._freeze()
        if config.lora is not None:
            add_lora(self.transformer, self.control, config.lora, config.seed)

    @property
    def text_encoder(self) -> TextEncoder:
        """Loaded when it is asked for: UMT5-XXL is larger than many a model that reads its embeddings."""
        return self.components.text.load()

    @property
    def patch(self) -> int:
        """Video latents along the side of a token."""
        return int(self.transformer.video_stream.config.patch_size[1])

    def pipeline(self, weights: Weights) -> CCLPipeline:
        """A pipeline of the given weights (the average, where there is one), apart from those in training.

        With `lora` its adapters are loaded, and act.
        """
        base = base_weights(weights)
        model = with_weights(self.transformer, base, "transformer.")
        control = None if self.control is None else with_weights(self.control, base, "control.")
        flow, data = self.config.flow, self.config.data
        video_codec: Any = copy.deepcopy(self.codecs.video)
        audio_codec: Any = copy.deepcopy(self.codecs.audio)
        made = CCLPipeline(
            model,
            video_codec.cpu(),
            audio_codec.cpu(),
            self.text_encoder,
            FlowMatchEulerDiscreteScheduler(shift=flow.video_shift),
            FlowMatchEulerDiscreteScheduler(shift=flow.audio_shift),
            fps=data.fps,
            height=data.size[0],
            width=data.size[1],
            control=control,
            **encoder_parts(self.encoders),
        )
        if self.config.lora is not None:
            made.load_lora_weights(lora_weights(weights), settings=adapter_settings(self.config.lora))
        return made

    def save(self, weights: Weights, folder: str | Path, card: str) -> None:
        """Write the checkpoint folder with its model card, the weights as `train.export_dtype` says.

        With `lora` the adapters alone, in a folder lora beside `folder`; `folder` is written only where other parts
        have learnt too (`lora.modules_to_save`), without the adapters.
        """
        lora, bf16 = self.config.lora, self.config.train.export_dtype == "bf16"
        if lora is not None:
            about = lora_card(card, lora, str(self.config.init))
            save_lora(weights, Path(folder).with_name("lora"), about, lora, torch.bfloat16 if bf16 else None)
            if not lora.modules_to_save:
                return
        pipeline: Any = self.pipeline(weights)
        if lora is not None:
            pipeline.unload_lora_weights()
        if bf16:
            round_weights(*filter(None, (pipeline.transformer, pipeline.control)))
        save_checkpoint(pipeline, folder, card, self.config.train.shard_size)

    def _model(self) -> DualStreamTransformer:
        """The configured model, new from the seed or with the weights of `init`, or with the streams of `init_streams`.

        Codecs and text say what goes in.
        """
        settings = dict(self.config.model)
        torch.manual_seed(derive(self.config.seed, "weights"))
        try:
            for name, codec in (("video", self.codecs.video), ("audio", self.codecs.audio)):
                sizes = {"in_channels": codec.latent_channels, "text_dim": self.components.text.dim}
                settings[name] = {**settings[name], **sizes}
            model = DualStreamTransformer(**settings)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"model: {error}; see configs/model/") from None
        if self.config.init_streams:
            streams = Path(self.config.init_streams) / "transformer"
            return initialised(model, streams, fresh=lambda name: part_of(name) == "fusion")
        return initialised(model, Path(self.config.init) / "transformer") if self.config.init else model

    def _control(self, sounding: Sounding | None) -> MSTControlNet:
        """The control network for this backbone and these features; with the weights of `init` where it has one."""
        stream = self.transformer.video_stream.config
        sizes = {name: (e.window, e.layers, e.dim) for name, e in self.encoders.items()}
        torch.manual_seed(derive(self.config.seed, "control"))
        try:
            control = MSTControlNet(
                backbone_dim=stream.width,  # by name: diffusers' config takes positional values for defaults
                backbone_heads=stream.num_attention_heads,
                num_blocks=stream.num_layers,
                tracks=sizes,
                temporal_stride=self.codecs.video.temporal_stride,
                **(self.config.control or {}),
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"control: {error}; see configs/model/puppets_control.yaml") from None
        return control_from(control, self.config, sounding)

    def _freeze(self) -> None:
        """Only what `trainable` names learns; with `lora`, what `lora.modules_to_save` does."""
        parts = self.config.trainable if self.config.lora is None else self.config.lora.modules_to_save
        self.transformer.requires_grad_("transformer" in parts)
        if "attention" in parts:
            video_blocks = torch.nn.ModuleList(block.video for block in self.transformer.blocks)
            for parameter in trainable_backbone_parameters(video_blocks).values():
                parameter.requires_grad_(True)
        if self.control is not None:
            self.control.requires_grad_("control" in parts)
            if "holistic" in parts:
                for parameter in self.control.holistic_parameters():
                    parameter.requires_grad_(True)


def control_from(control: MSTControlNet, config: TrainConfig, sounding: Sounding | None) -> MSTControlNet:
    """`control` with the weights of `init` but for what is `fresh`; new track encoders standardise their features."""
    folder, fresh = Path(config.init or "") / "control", config.reinit
    old = bool(config.init) and folder.is_dir() and "control" not in fresh
    if old:
        control = initialised(control, folder, *([_music_may_change] if "holistic" in fresh else []))
    new = (["music"] if "holistic" in fresh else []) if old else list(TRACKS)
    control.standardise({track: sounding(track) for track in new} if sounding is not None else {})
    return control


def _music_may_change(name: str) -> bool:
    """What music's way adds to every clip alike, the biases of the injection, stays: all else was trained with it."""
    return name.startswith(MSTControlNet.HOLISTIC) and not name.endswith("to_style.bias")


def initialised(model: Model, folder: Path, fresh: Callable[[str], bool] = lambda name: False) -> Model:
    """`model` with the weights of a checkpoint's component in `folder`; refused where names or shapes differ.

    Those whose names are `fresh` stay as they are.
    """

    def chosen(one: Model) -> dict[str, Tensor]:
        return {name: value for name, value in one.state_dict().items() if not fresh(name)}

    own, weights = chosen(model), chosen(type(model).from_pretrained(folder))
    for name in sorted(own.keys() | weights.keys()):
        here, there = (list(part[name].shape) if name in part else "absent" for part in (own, weights))
        if here != there:
            raise UserError(f"{folder}: {name} is {there}, and {here} in the configuration; make them agree")
    model.load_state_dict(model.state_dict() | weights)
    return model


def with_weights(model: Model, weights: Weights, prefix: str) -> Model:
    """A model like `model`, for sampling, with those of `weights` whose names begin with `prefix`."""
    other: Model = type(model).from_config(model.config)
    other.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return other.eval()


def encoder_parts(encoders: Mapping[str, Any]) -> dict[str, Any]:
    """A pipeline's parts for the tracks' features: what effects and music share with speech is there once."""
    first, *others = (encoders.get(track) for track in TRACKS)
    effects, music = (None if encoder is first else encoder for encoder in others)
    return {"audio_encoder": first, "effects_encoder": effects, "music_encoder": music}


def round_weights(*models: Any) -> None:
    """Make the weights bfloat16, but for those that a model keeps in float32."""
    for model in models:
        for name, parameter in model.named_parameters():
            if not any(kept in name for kept in model._keep_in_fp32_modules or ()):
                parameter.data = parameter.data.to(torch.bfloat16)

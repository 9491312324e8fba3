"""wav2vec2 as MTV uses it: all layers' outputs, at the rate of the video."""

from typing import ClassVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import Module, functional
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from shared.encoders.audio import FrozenFeatures, interpolate_features


class Wav2Vec2Features(FrozenFeatures, ModelMixin):
    """Features of speech, effects and music from one wav2vec2 (MTV, arXiv 2506.08003: base-960h, 12 layers, 768).
    The convolutions' features (50 per second) are interpolated, by the times at which they are centred, to one per
    video frame *before* the transformer, which attends over the whole track: encode it once, not window by window."""

    config_type, model_type, preprocessor_type = Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2FeatureExtractor

    def _frame_features(self, audio: Tensor, frames: int, fps: float) -> Tensor:
        span, hop = 1, 1  # samples that one feature of the convolutions sees, and from one to the next
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            span, hop = span + (kernel - 1) * hop, hop * stride
        values = self._prepared(audio)
        values = functional.pad(values, (0, max(0, span - values.shape[-1])))

        def to_frames(module: Module, inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
            places = self._places(frames, features.shape[-1], self.sample_rate / fps, span, hop)
            return interpolate_features(features.transpose(1, 2), places).transpose(1, 2)

        handle = self.model.feature_extractor.register_forward_hook(to_frames)
        try:
            return self._hidden_states(values).transpose(1, 2)
        finally:
            handle.remove()

    def _places(self, frames: int, count: int, samples: float, span: int, hop: int) -> Tensor:
        """Where among `count` features, each of `span` samples and `hop` apart, frames of `samples` are; [frames]."""
        return (torch.arange(frames, dtype=torch.float64) * samples - span / 2) / hop


class MTVCraftWav2Vec2(Wav2Vec2Features):
    """The same as the public MTV weights were trained with (baaivision/MTVCraft): the first feature is the first
    frame's and the last one's the last frame's, a window repeats those at the ends, and silence is what wav2vec2 makes
    of it, for zeros mean to these weights that all tracks are unknown."""

    zero_silence: ClassVar[bool] = False
    repeat_ends: ClassVar[bool] = True

    def _places(self, frames: int, count: int, samples: float, span: int, hop: int) -> Tensor:
        return torch.linspace(0, count - 1, frames, dtype=torch.float64)

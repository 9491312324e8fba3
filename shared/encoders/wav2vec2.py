"""wav2vec2 as MTV uses it: all layers' outputs, at the rate of the video."""

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
        positions = (torch.arange(frames, dtype=torch.float64) * (self.sample_rate / fps) - span / 2) / hop
        values = self._prepared(audio)
        values = functional.pad(values, (0, max(0, span - values.shape[-1])))

        def to_frames(module: Module, inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
            return interpolate_features(features.transpose(1, 2), positions).transpose(1, 2)

        handle = self.model.feature_extractor.register_forward_hook(to_frames)
        try:
            return self._hidden_states(values).transpose(1, 2)
        finally:
            handle.remove()

"""The audio spectrogram transformer (AST), an encoder for effects and music. MTV's own variant has BEATs there."""

import math

import torch
from diffusers.models.modeling_utils import ModelMixin
from einops import reduce
from torch import Tensor
from torch.nn import functional
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from shared.encoders.audio import FrozenFeatures, interpolate_features


class SpectrogramFeatures(FrozenFeatures, ModelMixin):
    """Features of sound events from AST (Gong et al. 2021); stands where the paper's variant has BEATs.
    The clip is read in segments of the model's length (10.24 s) on one grid of patches, which are averaged over
    frequency and interpolated to the video frames. One sees 0.16 s, every 0.1 s: coarse for the moment when."""

    config_type, model_type, preprocessor_type = ASTConfig, ASTModel, ASTFeatureExtractor
    MEL_HOP, MEL_SPAN = 0.01, 0.025  # s, fixed by the feature extractor

    def _frame_features(self, audio: Tensor, frames: int, fps: float) -> Tensor:
        cfg = self.model.config
        hop, span = round(self.MEL_HOP * self.sample_rate), round(self.MEL_SPAN * self.sample_rate)
        columns = (cfg.max_length - cfg.patch_size) // cfg.time_stride + 1  # patches in time of a segment
        stride = cfg.time_stride * hop  # samples from one patch to the next
        first = ((cfg.patch_size - 1) * hop + span) / 2  # the sample on which patch 0 is centred
        positions = (torch.arange(frames, dtype=torch.float64) * (self.sample_rate / fps) - first) / stride
        segments = 1 + max(0, math.ceil(positions[-1])) // columns
        features = []
        for begin in range(0, segments * columns * stride, columns * stride):
            piece = audio[..., begin:][..., : (cfg.max_length - 1) * hop + span]
            piece = functional.pad(piece, (0, max(0, span - piece.shape[-1])))
            patches = self._hidden_states(self._prepared(piece))[:, :, 2:]  # after the two class tokens
            features.append(reduce(patches, "b l (f t) d -> b t l d", "mean", t=columns))
        return interpolate_features(torch.cat(features, 1), positions)

"""How the two streams of a block read one another: CCA in both directions.

What CCL is compared with has the same interface (`ccl.baselines`, where `FUSIONS` names them all).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from ccl.context_attention import AudioContextAttention, VideoContextAttention
from ccl.tarp import Alignment
from shared.nn.context_parallel import ContextShard
from shared.nn.dit import StreamConfig
from shared.nn.rope import time_rotary

#: Partition and rotation by which the streams read one another: named arguments of `Fusion.video` and `Fusion.audio`.
RotaryArguments = tuple[Mapping[str, Any], Mapping[str, Any]]
#: CCA's heads, their width and the number of context tokens.
Sizes = tuple[int, int, int]
#: (frames, height, width) of the video in tokens.
Grid = tuple[int, int, int]


class Fusion(nn.Module):
    """Both directions of one block: `video` is how the video reads the audio, `audio` how the audio reads the video.

    A direction is a module with

    - `key_value(y)`: keys and values of the other stream's hidden states y [B, M, D]; a clean stream's are cached.
    - `direction(x, key_value=..., **rotary_arguments)`: what is added to the hidden states x [B, N, D].
    - `unconditional(x)`: the same where the route does not read the other stream (0m).

    A fusion of another kind derives from this class, says which `directions` it has or how to `build` them, and which
    `rotary_arguments` they need. With `inside_text_attention` a direction acts inside the block's text attention, not
    after it: x is then the attention's queries and the text's keys and values, three tensors [B, N, h, d], and what is
    returned, [B, N, h, d], goes into its output projection. With texts over time there are keys and values of all texts
    [R, L, h, d], and a named argument `route` that brings queries to theirs (`shared.nn.timed_text.TextRoute`).
    """

    inside_text_attention: ClassVar[bool] = False
    video: Any
    audio: Any
    directions: ClassVar[dict[str, Any]] = {"video": VideoContextAttention, "audio": AudioContextAttention}

    def __init__(self, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        self.video, self.audio = video, audio

    @classmethod
    def build(cls, stream: str, reader: StreamConfig, other: StreamConfig, sizes: Sizes) -> Any:
        """Build the direction in which `stream` ("video" or "audio"), the `reader`, reads the `other`."""
        return cls.directions[stream](reader.width, other.width, *sizes)

    def rotary_arguments(self, alignment: Alignment, grid: Grid, scale: float) -> RotaryArguments:
        """Those of all blocks, on the CPU; `scale` is the model's `cca_time_scale`."""
        video, audio = (
            {"alignment": alignment, "rotary": time_rotary(scale * offset, self.video.head_dim)}
            for offset in (alignment.window_offset, alignment.offset)
        )
        return video, audio

    def audio_shard(self, arguments: RotaryArguments, video: ContextShard) -> ContextShard | None:
        """Make the shard of audio tokens that read the latents of the video's; None where a process would have no token
        or there is no partition."""
        if "alignment" not in arguments[1]:
            return None
        frame = arguments[1]["alignment"].frame.cpu()
        edges = torch.searchsorted(frame, torch.tensor(video.edges))
        return ContextShard(video.group, tuple(edges.tolist()), 1, True) if (edges.diff() > 0).all() else None

    def of_shards(
        self, arguments: RotaryArguments, video: ContextShard | None, audio: ContextShard | None
    ) -> RotaryArguments:
        """`rotary_arguments` for the tokens that are here; of the other stream there are all keys and values, or
        where a shard reads what is here those of the other's shard."""
        of_video, of_audio = ({**one} for one in arguments)
        if video is not None:
            alignment, here = of_video["alignment"].of_frames(video.latents), video.latents
            of_video |= {"alignment": alignment, "rotary": of_video["rotary"][here]}
        if audio is not None:
            alignment, frames = of_audio["alignment"].of_tokens(audio.latents)
            if audio.reads_here and video is not None:
                first = video.latents.start
                alignment, frames = alignment.of_frames(video.latents), slice(frames.start - first, frames.stop - first)
            of_audio |= {"alignment": alignment, "rotary": of_audio["rotary"][audio.latents], "frames": frames}
        return of_video, of_audio

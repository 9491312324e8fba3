"""One block of both streams: each attends to itself and to its text, reads the other, and feeds forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ccl.context_attention import KeyValue
from ccl.fusion import Fusion, RotaryArguments
from ccl.routing import Reads, Route
from shared.nn.dit import DiTBlock, StreamState

#: What a stream reads: the other's state, or where that is clean and has run its keys and values in this block.
Readable = StreamState | KeyValue | None
#: Video and audio; None where a stream is not computed.
States = tuple[StreamState | None, StreamState | None]
Half = Literal["both", "attentions", "feed-forward"]


class JointBlock(nn.Module):
    """One block of both streams: self-attention -> text -> fusion -> control -> FFN."""

    def __init__(self, video: DiTBlock, audio: DiTBlock, fusion: Fusion) -> None:
        super().__init__()
        self.video, self.audio, self.fusion = video, audio, fusion

    def forward(
        self,
        video: StreamState | None,
        audio: StreamState | None,
        route: Route,
        rotary: RotaryArguments,
        cached_video: KeyValue | None = None,
        cached_audio: KeyValue | None = None,
        control: Callable[[Tensor], Tensor] | None = None,
        half: Half = "both",
        read: dict[str, Tensor] | None = None,
    ) -> States:
        """Both directions of the fusion read the states from before it (symmetric).

        A stream that is not computed is None; of a clean one that has run before (`run_clean`) there are its cached
        keys and values. `rotary`: `Fusion.rotary_arguments`. `control` adds to the video's hidden states [B, N, D].
        `half`: what comes before the control, or what comes after it, alone. `read` is filled with the hidden states
        [B, N, D] that the other stream reads of each.
        """
        if half != "feed-forward":
            video = video and self._attend(self.video, video)
            audio = audio and self._attend(self.audio, audio)
            if read is not None:
                read |= {name: state.x for name, state in (("video", video), ("audio", audio)) if state is not None}
            video, audio = (
                video and self._join("video", video, route.video, cached_audio or audio, rotary[0]),
                audio and self._join("audio", audio, route.audio, cached_video or video, rotary[1]),
            )
        if video is not None and control is not None:
            video = video.with_x(control(video.x))
        if half == "attentions":
            return video, audio
        return video and self.video.feed_forward(video), audio and self.audio.feed_forward(audio)

    def run_clean(self, stream: str, state: StreamState, learns: bool) -> tuple[StreamState, KeyValue]:
        """One stream on its context tokens, without the other, and its keys and values for the other to read.

        Unless it `learns`, no gradient reaches the stream; what makes the keys and values learns in any case.
        """
        block: DiTBlock = getattr(self, stream)
        reader = self.fusion.audio if stream == "video" else self.fusion.video
        with torch.set_grad_enabled(learns):
            state = self._attend(block, state)
        key_value = key_value_for(None, reader, state)
        with torch.set_grad_enabled(learns):
            state = block.feed_forward(self._join(stream, state, Reads.CONTEXT, None, {}))
        return state, key_value

    def _attend(self, block: DiTBlock, state: StreamState) -> StreamState:
        """Self-attention and, unless the fusion acts inside it, text attention."""
        return block.attend_self(state) if self.fusion.inside_text_attention else block.attend(state)

    def _join(
        self, stream: str, state: StreamState, reads: Reads, other: Readable, rotary: Mapping[str, Any]
    ) -> StreamState:
        """Add to a stream's state what it reads of the other."""
        block, direction = getattr(self, stream), getattr(self.fusion, stream)
        update = direction.unconditional
        if reads is Reads.CROSS_MODAL:
            assert other is not None, "the route joins the streams"
            key_value = key_value_for(state, direction, other) if isinstance(other, StreamState) else other
            update = partial(direction, key_value=key_value, **rotary)
        inside = self.fusion.inside_text_attention
        return block.attend_text(state, update) if inside else state.with_x(state.x + update(state.x))


def key_value_for(reader: StreamState | None, direction: Any, other: StreamState) -> KeyValue:
    """Keys and values of the other stream: gathered from where its tokens are, unless all that is read is here."""
    k, v = direction.key_value(other.x)
    if other.shard is not None and not (reader and reader.shard and reader.shard.reads_here):
        k, v = other.shard.gather(k, v)
    return k, v

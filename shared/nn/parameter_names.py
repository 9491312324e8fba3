"""Whose a joint model's parameter is, by its name; without torch.

What stands before and after the blocks of a stream is "video_stream.proj_out.bias", a stream's part of a block
"blocks.3.video.ffn.net.2.bias", and what joins the streams there "blocks.3.fusion.video.to_q.weight".
"""

import re

_OF_STREAM = re.compile(r"(?:(video|audio)_stream\.|blocks\.(\d+)\.(video|audio)\.)(.+)")
_IN_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def joint_name(stream: str, name: str) -> str:
    """Name in a joint model of the parameter `name` of `stream` ("video" or "audio"); Wan's own names are those."""
    inside = _IN_BLOCK.fullmatch(name)
    return f"blocks.{inside[1]}.{stream}.{inside[2]}" if inside else f"{stream}_stream.{name}"


def stream_name(name: str) -> tuple[str, str] | None:
    """Stream of a joint model's parameter and its name there, as `joint_name` takes them; None if it has none."""
    match = _OF_STREAM.fullmatch(name)
    if match is None:
        return None
    outside, number, inside, rest = match.groups()
    return (outside, rest) if outside else (inside, f"blocks.{number}.{rest}")


def part_of(name: str) -> str:
    """Name "video_stream", "audio_stream" or "fusion"; of a parameter of another model its outermost module."""
    stream = stream_name(name)
    if stream is not None:
        return f"{stream[0]}_stream"
    return "fusion" if ".fusion." in name else name.partition(".")[0]

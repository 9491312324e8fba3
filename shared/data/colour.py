"""Colours of decoded frames: what their tags say, and frames in BT.709 without alpha, whatever was filmed.

Tagged frames are read as tagged, in full or limited range. Without a tag the matrix is BT.709 from 720 lines or 1280
columns on, BT.601 below. PQ, HLG and BT.2020 are mapped to BT.709 by libswscale, perceptually: bright tones are
compressed, not cut. PQ reaches 10,000 cd/m²; where the file does not say how bright its display was, 1,000 are taken.
"""

import logging
import os
import threading
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

from shared.utils.errors import UserError

HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
BACKGROUND = (255, 255, 255)  # what transparent pixels show, as a browser and most viewers show it
_UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED
_HD = (720, 1280)  # rows or columns from which an untagged picture is taken for BT.709
_NAMED = 20  # files that `tell_mapped` names
#: libswscale takes a PQ picture without this side data for one of 10,000 cd/m², and makes it dull. HLG ends at 1,000.
_MASTERING = SideDataType.MASTERING_DISPLAY_METADATA
_DOLBY = SideDataType.DOVI_METADATA
#: Matrices, by FFmpeg's number, that libswscale has not.
_UNREAD = {
    8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "SMPTE 2085", 12: "derived from their primaries",
    13: "derived from their primaries", 14: "ICtCp", 15: "IPT",
}  # fmt: skip
_TO_HLG = "out_transfer=arib-std-b67:intent=relative_colorimetric"
_TO_BT709 = "out_primaries=bt709:out_transfer=bt709:intent=perceptual"
_log = logging.getLogger(__name__)


def matrix(frame: Any) -> Colorspace | None:
    """Matrix to read an untagged frame by; None where the frame's own tag or FFmpeg's BT.601 is right."""
    is_hd = frame.height >= _HD[0] or frame.width >= _HD[1]
    untagged = frame.colorspace == _UNTAGGED and not frame.format.is_rgb
    return Colorspace.ITU709 if untagged and is_hd else None


def wide(frame: Any) -> str | None:
    """Name colours of a frame or a codec context that BT.709 cannot hold: "HDR (PQ)", "HDR (HLG)" or "BT.2020"."""
    if frame.color_trc in HDR:
        return f"HDR ({HDR[frame.color_trc]})"
    return "BT.2020" if frame.color_primaries == ColorPrimaries.BT2020 else None


def check_colours(path: Path, frame: Any) -> None:
    """Warn of a file whose first frame is not in BT.709's colours. UserError if they cannot be brought into them."""
    name = _UNREAD.get(frame.colorspace)
    if frame.color_trc == ColorTrc.UNSPECIFIED and any(data.type == _DOLBY for data in frame.side_data):
        name = "those of Dolby Vision alone (profile 5)"
    if name:
        raise UserError(f"{path}: its colours are {name}, which cannot be read here; convert it to BT.709")
    if colours := wide(frame):
        tell_mapped(path, colours)


@cache
def tell_mapped(path: Path, colours: str) -> None:
    """Warn once that a file is not read in its own colours; after `_NAMED` files no more is said."""
    before = tell_mapped.cache_info().currsize
    if before < _NAMED:
        _log.warning("%s: is %s; it is read tone-mapped to BT.709", path, colours)
    elif before == _NAMED:
        _log.warning("further files in HDR or BT.2020 are not named")


def plain(frame: Any) -> Any:
    """Return a frame in BT.709 without alpha, of the same size; an ordinary frame is returned itself."""
    if wide(frame):
        frame = _to_bt709(frame)
    return _on_background(frame) if _has_alpha(frame) else frame


def _to_bt709(frame: Any) -> Any:
    if frame.colorspace == _UNTAGGED and not frame.format.is_rgb:
        frame.colorspace = Colorspace.BT2020
    if frame.color_primaries == ColorPrimaries.UNSPECIFIED:
        frame.color_primaries = ColorPrimaries.BT2020
    tags = frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries
    boundless = frame.color_trc == ColorTrc.SMPTE2084 and not any(data.type == _MASTERING for data in frame.side_data)
    steps = (_TO_HLG, "gbrp16le", _TO_BT709) if boundless else (_TO_BT709,)
    wanted = "rgba" if _has_alpha(frame) else "gbrp"
    owner = os.getpid(), threading.get_ident()  # a forked process has its parent's graphs without their threads
    graph = _graph(owner, frame.format.name, frame.width, frame.height, (*steps, wanted), *tags)
    graph.push(frame)
    return graph.pull()


@lru_cache(maxsize=16)
def _graph(owner: tuple[int, int], source: str, width: int, height: int, steps: tuple[str, ...], *tags: int) -> Graph:
    """Make the filter of one thread for frames of one kind. Its tables of colours take seconds, so it is kept."""
    graph = Graph()
    filters = [graph.add("scale" if "=" in step else "format", step) for step in steps]
    buffer = graph.add_buffer(width=width, height=height, format=VideoFormat(source), time_base=Fraction(1, 1000))
    graph.link_nodes(buffer, *filters, graph.add("buffersink"))
    graph.configure()
    return graph


def _has_alpha(frame: Any) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _on_background(frame: Any) -> Any:
    pixels = frame.reformat(format="rgba", src_colorspace=matrix(frame), threads=1).to_ndarray().astype(np.float32)
    share = pixels[..., 3:] / 255
    opaque = np.rint(pixels[..., :3] * share + np.array(BACKGROUND, np.float32) * (1 - share)).astype(np.uint8)
    return av.VideoFrame.from_ndarray(opaque, "rgb24")

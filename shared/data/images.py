"""Still pictures in: any depth, mode and orientation becomes upright 8-bit RGB; files are judged by their header first.

Scale: 16 bits from 0 to 65535, other depths by the bits that the file states. Samples of 32 bits, in which programs
keep 8 or 16 bits as well: by the smallest of 8, 16 and 32 bits that holds the brightest. Floats lie in [0, 1].
What is transparent shows `BACKGROUND`. Colour profiles are not applied.
"""

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from shared.data.clip_files import existing
from shared.data.colour import BACKGROUND
from shared.data.containers import MOST_PIXELS, check_file, check_pixels
from shared.utils.errors import UserError

Picture = npt.NDArray[np.uint8]

#: Of Pillow's formats, those of pixels: none that is drawn by a program (EPS, WMF) or names other files.
FORMATS = (
    "PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "TGA", "SGI", "PCX", "ICO",
    "QOI",
)  # fmt: skip
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _SIGNED = 258, 339, 2  # tags of TIFF, and a value of the second
_log = logging.getLogger(__name__)


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Picture:
    """Read a picture, upright, as uint8 [H, W, 3]; `size` (H, W) as in `read_video`.

    Raises UserError if it is missing, broken, larger than `MOST_PIXELS` (from the header, before it is decoded), or
    holds floats outside [0, 1]. Of an animation the first picture is taken, with a warning.
    """
    path = Path(path)
    return picture_of(_decoded(path), size, path)


def picture_of(image: Image.Image, size: tuple[int, int] | None, name: str | Path) -> Picture:
    """As `read_image`, of a picture in memory, which messages call `name`."""
    image = _as_rgb(name, image)
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(image)


def _decoded(path: Path) -> Image.Image:
    Image.init()  # which formats there are
    try:
        path = existing(path)
        check_file(path)
        formats = [name for name in FORMATS if name in Image.OPEN]
        # Pillow warns of oddities that change nothing; what does is an error
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats) as opened:
            check_pixels(path, *opened.size)
            if (count := getattr(opened, "n_frames", 1)) > 1 and opened.format != "MPO":  # a photograph's thumbnails
                _tell_first(path, count)
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)  # a copy would lose the tags of a TIFF
            return opened
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        most = f"at most {MOST_PIXELS // 10**6} million pixels are read"
        raise UserError(f"{path}: too large a picture; {most}, scale it down") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them stumble over
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        reason = "no format that is known here" if isinstance(error, UnidentifiedImageError) else reason
        raise UserError(f"{path}: broken or not a picture ({reason}); png, jpeg or webp is expected") from error


def _as_rgb(path: str | Path, image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB by the rules above."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(path, image)).convert("RGB")
    if image.mode == "LAB":
        rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        assert converted is not None  # it is not made in place
        return converted
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, BACKGROUND)
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bits(path: str | Path, image: Image.Image) -> Picture:
    """Scale one channel, integers of more than 8 bits or floats, as uint8 [H, W]."""
    samples = np.asarray(image)
    if image.mode == "F":
        low, high = float(samples.min()), float(samples.max())
        if not (low >= 0 and high <= 1):  # NaN as well
            raise UserError(f"{path}: floats from {low:g} to {high:g}; those of a picture must lie in [0, 1]")
        return np.rint(samples * 255).astype(np.uint8)
    tags: Any = getattr(image, "tag_v2", {})
    bits, signed = tags.get(_BITS_PER_SAMPLE, (16,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if bits == 32 and not signed:
        samples = samples.astype(np.int32).view(np.uint32)  # Pillow has no type for it
    values = samples.astype(np.float64)
    if values.min() < 0:
        raise UserError(f"{path}: samples down to {values.min():g}; those of a picture must not be negative")
    white = 2.0 ** (bits - signed) - 1
    if bits == 32:
        white = next(most for most in (255.0, 65535.0, white) if values.max() <= most)
    return np.rint(values * (255 / white)).astype(np.uint8)


@cache
def _tell_first(path: Path, count: int) -> None:
    """Say so once, though a picture is read before the model and again at the model's size."""
    _log.warning("%s: has %d pictures; the first is used", path, count)

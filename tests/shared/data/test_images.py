"""Still pictures: every depth, mode and orientation comes back as a viewer shows it; the rest is refused in a line."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from odd_media import png
from PIL import Image, ImageCms
from PIL import __version__ as pillow

from shared.data.images import FORMATS, read_image
from shared.utils.errors import UserError

UNIT = np.linspace(0, 1, 256)[None].repeat(4, 0)
WANTED = np.rint(UNIT * 255).astype(np.uint8)
U16 = np.rint(UNIT * 65535).astype(np.uint16)


def grey(path: Path, picture: Image.Image | bytes, **options: object) -> np.ndarray:
    """What is read of a grey picture, [H, W]."""
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    else:
        picture.save(path, **options)
    read = read_image(path)
    assert read.dtype == np.uint8 and (read == read[..., :1]).all()
    return read[..., 0]


READS_OWN_YCC = pytest.mark.skipif(int(pillow.split(".")[0]) < 13, reason=f"Pillow {pillow} cuts its own YCbCr off")


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("16.png", Image.fromarray(U16)), ("16.tif", Image.fromarray(U16)), ("16.pgm", Image.fromarray(U16)),
        ("16b.tif", Image.fromarray(U16.astype(">u2"))), ("16.jp2", Image.fromarray(U16)),
        ("8.png", Image.fromarray(WANTED)), ("grey_alpha.png", png(np.stack([U16, np.full_like(U16, 65535)], -1), 4)),
        ("rgb.png", png(np.stack([U16] * 3, -1), 2)), ("rgba.png", png(np.stack([U16] * 3 + [U16 * 0 + 65535], -1), 6)),
        ("int_of_8.tif", Image.fromarray(WANTED.astype(np.int32))),
        ("int_of_16.tif", Image.fromarray(U16.astype(np.int32))),
        ("int.tif", Image.fromarray((UNIT * (2**31 - 1)).astype(np.int32))),
        ("float.tif", Image.fromarray(UNIT.astype(np.float32))),
        ("palette.png", Image.fromarray(WANTED).convert("P")), ("cmyk.tif", Image.fromarray(WANTED).convert("CMYK")),
        pytest.param("ycc.tif", Image.fromarray(WANTED).convert("YCbCr"), marks=READS_OWN_YCC),
        ("opaque.png", Image.fromarray(WANTED).convert("RGBA")),
        ("still.webp", Image.fromarray(WANTED).convert("RGB")), ("bmp.bmp", Image.fromarray(WANTED)),
    ],
)  # fmt: skip
def test_every_depth_comes_back_by_its_true_range(tmp_path: Path, name: str, picture: Image.Image | bytes) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    assert np.abs(grey(tmp_path / name, picture, **options).astype(int) - WANTED).max() <= 1


def test_unsigned_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray((UNIT * (2**32 - 1)).astype(np.uint32).view(np.int32)).save(path)
    data = bytearray(path.read_bytes())  # Pillow writes signed samples alone: the tag SampleFormat says so
    data[data.index((339).to_bytes(2, "little")) + 8] = 1
    assert np.abs(grey(path, bytes(data)).astype(int) - WANTED).max() <= 1


def test_bits_lab_and_orientation(tmp_path: Path) -> None:
    assert set(np.unique(grey(tmp_path / "1.png", Image.fromarray(WANTED > 127)))) == {0, 255}
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    red = Image.new("RGB", (8, 8), (200, 40, 40))
    ImageCms.profileToProfile(red, srgb, lab, outputMode="LAB").save(tmp_path / "lab.tif")
    assert np.abs(read_image(tmp_path / "lab.tif")[0, 0].astype(int) - (200, 40, 40)).max() <= 2
    exif = Image.Exif()
    exif[0x112] = 6
    wide = Image.new("RGB", (20, 10))
    wide.paste((255, 255, 255), (0, 0, 10, 10))
    wide.save(tmp_path / "turned.jpg", exif=exif)
    upright = read_image(tmp_path / "turned.jpg")
    assert upright.shape == (20, 10, 3) and upright[:8].min() > 240 and upright[12:].max() < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "PA"])
def test_alpha_shows_white_and_no_hidden_colour(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4, :3], pixels[:, 4:, 3] = 77, 255  # the left half: hidden grey; the right: black
    picture, options = Image.fromarray(pixels), {}
    if mode in ("RGB", "P"):
        picture = picture.convert("RGB") if mode == "RGB" else picture.convert("RGB").quantize(2)
        options = {"transparency": picture.getpixel((0, 0))}
    elif mode == "PA":
        alpha, picture = picture.getchannel("A"), picture.convert("RGB").quantize(2)
        picture.putalpha(alpha)
        assert picture.mode == "PA"
    else:
        picture = picture.convert(mode)
    read = grey(tmp_path / ("a.tif" if mode == "PA" else "a.png"), picture, **options)
    assert read[:, :4].min() == 255 and read[:, 4:].max() == 0
    pixels[..., :3], pixels[..., 3] = 0, 128
    assert read_image_of(tmp_path / "half.png", pixels)[0, 0, 0] == 127


def read_image_of(path: Path, pixels: np.ndarray) -> np.ndarray:
    Image.fromarray(pixels).save(path)
    return read_image(path)


@pytest.mark.parametrize(
    ("values", "told"),
    [(UNIT * 255, "floats from 0 to 255"), (UNIT - 0.5, "floats from -0.5"), (UNIT * np.nan, "floats from nan")],
)
def test_floats_outside_0_to_1_are_refused(tmp_path: Path, values: np.ndarray, told: str) -> None:
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=rf"a\.tif: {told}.* must lie in \[0, 1\]"):
        read_image(tmp_path / "a.tif")


def test_negative_samples_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), -5, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: samples down to -5"):
        read_image(tmp_path / "a.tif")


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    for side, told in (
        (9000, "a picture of 9000 x 9000; at most 80 million"),
        (30000, "too large a picture; at most 80"),
    ):
        (tmp_path / "a.png").write_bytes(png(np.zeros((1, 1, 1), np.uint16), 0))
        data = bytearray((tmp_path / "a.png").read_bytes())
        data[16:24] = side.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UserError, match=rf"a\.png: {told}"):
            read_image(tmp_path / "a.png")


def test_an_animation_gives_its_first_picture_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 255, 255)), Image.new("RGB", (8, 8))
    for name in ("a.gif", "a.webp", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert read_image(tmp_path / name).min() > 250 and read_image(tmp_path / name, (4, 4)).min() > 250
    assert caplog.messages == [
        f"{tmp_path / name}: has 2 pictures; the first is used" for name in ("a.gif", "a.webp", "a.tif")
    ]


def test_what_is_no_picture_is_refused_in_a_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.jpg", "a.png", "a.webp", "a.tif"):
        Image.fromarray(noise).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"cut.{name}").write_bytes(data[: len(data) // 2])
    Image.fromarray(noise).save(tmp_path / "a.eps")
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name in ("cut.a.jpg", "cut.a.png", "cut.a.webp", "cut.a.tif", "a.eps", "a.svg"):
        with pytest.raises(UserError, match=rf"{name}: broken or not a picture \(.+\); png, jpeg or webp"):
            read_image(tmp_path / name)
    for name, told in (("empty.png", "empty"), ("folder.png", "no such file"), ("gone.png", "no such file")):
        with pytest.raises(UserError, match=rf"{name}: .*{told}"):
            read_image(tmp_path / name)


def test_no_format_is_drawn_by_another_program() -> None:
    assert not {"EPS", "WMF", "PDF", "MPEG", "HDF5", "GRIB", "BUFR"} & set(FORMATS)
    Image.init()
    assert {"PNG", "JPEG", "WEBP", "TIFF", "GIF"} <= set(FORMATS) & set(Image.OPEN)

"""What a digest of settings stands for."""

from pathlib import Path

from shared.utils.cli import Options, option
from shared.utils.digest import files_digest, settings_digest

LEFT_OUT = ("output", "device")


class Asked(Options):
    output: Path = option(Path("out.mp4"), "a file")
    device: str = option("auto", "where")
    seed: int = option(0, "of the noise")


def test_settings_are_options_and_the_contents_of_files(tmp_path: Path) -> None:
    """Not where the result goes, nor where the computing is done."""
    file = tmp_path / "a.wav"
    file.write_bytes(bytes(300000))
    digest = settings_digest(Asked(), [file], LEFT_OUT)
    assert settings_digest(Asked(output=Path("x.mp4"), device="cpu"), [file], LEFT_OUT) == digest
    assert settings_digest(Asked(device="cpu"), [file], ("output",)) != digest
    assert settings_digest(Asked(seed=1), [file], LEFT_OUT) != digest
    file.write_bytes(bytes(299999) + b"x")
    assert settings_digest(Asked(), [file], LEFT_OUT) != digest


def test_files_are_their_names_sizes_and_ends(tmp_path: Path) -> None:
    file, other = tmp_path / "a.wav", tmp_path / "b.wav"
    file.write_bytes(bytes(300000))
    other.write_bytes(bytes(300000))
    digest = files_digest([file])
    assert files_digest([file]) == digest and len({digest, files_digest([other]), files_digest([])}) == 3
    for content in (bytes(300001), b"x" + bytes(299999), bytes(299999) + b"x"):
        file.write_bytes(content)
        assert files_digest([file]) != digest

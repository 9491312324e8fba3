"""Where a run's curves can be watched: TensorBoard, Weights & Biases if it is installed. Rank 0 alone has them."""

import importlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.data.media import probe, read_audio, read_video
from shared.utils.errors import UserError
from shared.utils.files import write_atomically
from shared.utils.text_files import parse_yaml, read_text

GIF_FPS, RATE = 8.0, 16_000  # of clips in TensorBoard


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError if one of `train.report_to` cannot be had here; every process asks, before anything is done."""
    if "wandb" in names:
        try:
            importlib.import_module("wandb")
        except ImportError:
            raise UserError(
                "train.report_to: wandb needs the package wandb, which is not installed; install it, or leave it out"
            ) from None


class TensorBoard:
    """Files in OUTPUT/tensorboard. What a killed run wrote after `first_step` is purged."""

    def __init__(self, output: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(output / "tensorboard"), purge_step=first_step + 1)

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def show(self, clips: Sequence[Path], step: int) -> None:
        """Add clips as moving pictures (GIF, at `GIF_FPS`) under IMAGES and their sound under AUDIO."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        for clip in clips:
            name, info = _sample_name(clip), probe(clip)
            first, *others = [Image.fromarray(picture) for picture in read_video(clip, GIF_FPS, None)]
            first.save(gif := io.BytesIO(), "GIF", save_all=True, append_images=others, duration=1000 / GIF_FPS, loop=0)
            image = Summary.Image(
                encoded_image_string=gif.getvalue(), width=first.width, height=first.height, colorspace=3
            )
            file = self.writer._get_file_writer()  # torch 2.13; its add_video would need moviepy
            file.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
            if info.rate is not None:
                self.writer.add_audio(name, read_audio(clip, RATE), step, RATE)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases, named as OUTPUT; project, entity and mode are those of the environment (WANDB_...).

    Its id is kept in OUTPUT/wandb_id, so that a resumed run goes on in the same curves; steps that a killed run had
    logged already are not taken twice there."""

    def __init__(self, output: Path, first_step: int) -> None:
        wandb: Any = importlib.import_module("wandb")
        kept = output / "wandb_id"
        run_id = read_text(kept).strip() if kept.exists() else None
        settings = parse_yaml(read_text(file := output / "config.yaml"), str(file))
        self.run = wandb.init(id=run_id, resume="allow", name=output.name, dir=str(output), config=settings)
        write_atomically(kept, f"{self.run.id}\n")

    def add(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def show(self, clips: Sequence[Path], step: int) -> None:
        video = importlib.import_module("wandb").Video
        self.run.log({_sample_name(clip): video(str(clip), format="mp4") for clip in clips}, step=step)

    def close(self) -> None:
        self.run.finish()


def _sample_name(clip: Path) -> str:
    """Name the same at every step: stepN_mtv_0.mp4 is samples/mtv_0."""
    return f"samples/{clip.stem.partition('_')[2]}"


def open_trackers(names: Sequence[str], output: Path, first_step: int) -> list[TensorBoard | WandB]:
    """Open the trackers of a run in `output` that goes on after `first_step` steps. They take values by name
    ("loss/video/t2av") after a step, counted from 1."""
    makers: dict[str, type[TensorBoard] | type[WandB]] = {"tensorboard": TensorBoard, "wandb": WandB}
    return [makers[name](output, first_step) for name in dict.fromkeys(names)]

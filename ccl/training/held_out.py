"""Losses of clips that never train: the training's own objective, at each validation on the same noise and levels.

A batch is keyed by the number of its noise level in the place of a step, so noise and u of a clip are those of every
other validation and of every other run of that seed. Nothing of a text, a track or the clip is dropped or given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ccl.routing import Task
from ccl.training.batches import ClipBatches
from ccl.training.data import TrainingData, latents_folder, training_texts
from ccl.training.objective import Batch
from ccl.training.source import Source, read_source
from mtv.control import TrackFeatures
from mtv.track_features import draw_dropped
from shared.training.components import Components
from shared.utils.config import TrainConfig
from shared.utils.distributed import World


def held_out_config(config: TrainConfig) -> TrainConfig:
    """Configure the reading of the held-out clips: all of them, encoded as the training's, nothing dropped."""
    validation = config.validation
    choice = {
        "manifest": None if validation.shards else validation.manifest, "shards": validation.shards,
        "subsets": [], "exclude_subsets": [], "max_duration": None, "latents": str(latents_folder(config) / "held_out"),
    }  # fmt: skip
    nothing = {"text_dropout": 0.0, "text_dropout_per_task": {}, "clean_frames": 0.0, "clean_spans": 0.0}
    nothing |= {"keyframes": 0.0, "audio_caption_rate": 1.0}
    kept = {"dropout": 0.0, "dropout_all": 0.0, "drop_speaker_prob": 0.0, "drop_from_caption": {}}
    sections = {"data": config.data.model_copy(update=choice), "tracks": config.tracks.model_copy(update=kept)}
    sections["validation"] = validation.model_copy(update={"held_out": 0})
    return config.model_copy(update={**nothing, **sections})


def read_held_out(config: TrainConfig) -> Source | None:
    """Find the held-out clips, before anything is loaded; None where no losses of theirs are asked for. UserError as
    `read_source`."""
    if not config.validation.held_out:
        return None
    return read_source(held_out_config(config), _tasks(config))


class HeldOut:
    """Held-out clips as a trainer measures them: `batches(rank, size)`."""

    def __init__(self, config: TrainConfig, source: Source, components: Components, world: World) -> None:
        """Encode what is not encoded yet. UserError for clips that this training could not learn from."""
        self.config = held_out_config(config)
        self.levels, self.tasks = config.validation.held_out, _tasks(config)
        if source.shards is None:
            captions = training_texts(self.config, source.clips)
            texts = components.text.cached(captions, Path(latents_folder(self.config)) / "texts", world)
            self.data = TrainingData.encoded(self.config, source.clips, components, texts, world)
        else:
            self.data = TrainingData.opened(self.config, source.shards, components, world)
        tracks = None if self.data.tracks is None else self._tracks
        self.build = ClipBatches(self.config, self.data.latents, components.codecs, self.data.texts, tracks).build

    def batches(self, rank: int, size: int) -> Iterator[tuple[Batch, bool]]:
        """Yield the batches of one of `size` ranks, each on one task and level, and whether it counts: where there is
        none left for this rank it has another's, since all must run the same parts of the model."""
        groups = self._groups()
        for task in self.tasks:
            for level in range(self.levels):
                for first in range(0, len(groups), size):
                    ids = groups[min(first + rank, len(groups) - 1)]
                    yield self.build(ids, [task] * len(ids), level), first + rank < len(groups)

    def _groups(self) -> list[list[str]]:
        """Clips of one shape, up to a micro-batch of them."""
        shapes: dict[object, list[str]] = defaultdict(list)
        for name, record in self.data.latents.records.items():
            shapes[(*record.video, *record.audio, record.fps)].append(name)
        size = self.config.train.micro_batch or 1
        return [alike[at : at + size] for alike in shapes.values() for at in range(0, len(alike), size)]

    def _tracks(self, step: int, ids: list[str]) -> TrackFeatures:
        assert self.data.tracks is not None, "task mtv has tracks"
        return self.data.tracks.batch(ids, draw_dropped(0.0, 0.0, self.config.seed, step, ids))


def _tasks(config: TrainConfig) -> Sequence[str]:
    """Tasks that the run trains, in any of its phases."""
    return [task.value for task in Task if config.trains(task)]

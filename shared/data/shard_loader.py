"""Passes over latent shards: every record once per epoch, over ranks and worker processes; and the texts in them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from shared.data.bad_clips import Problem
from shared.data.bucketing import BatchPlan
from shared.data.latents import Latents
from shared.data.shard_index import EMPTY_NAME, text_key
from shared.data.shards import ShardedLatents
from shared.encoders.cache import unpack_texts
from shared.utils.errors import UserError
from shared.utils.object_store import Place, local_copy
from shared.utils.rng import numpy_generator

#: What of `Latents` is handed over stacked.
TENSORS = ("video", "audio", "keyframe_latents")


def epoch_batches(plan: BatchPlan, epoch: int, rank: int) -> list[list[str]]:
    """One rank's batches of an epoch, shuffled by (seed, epoch): over all ranks every clip exactly once.

    Buckets and batch sizes are the plan's, only the last batch of a bucket may be smaller. Unlike the plan's own
    endless micro-batches, ranks may have different shapes at a time and one batch more than others.
    """
    batches = []
    for shape, clips in plan.buckets.items():
        order = numpy_generator(plan.seed, "epoch", epoch, shape).permutation(len(clips))
        size = plan.micro[shape]
        batches += [[clips[i] for i in order[k : k + size]] for k in range(0, len(order), size)]
    order = numpy_generator(plan.seed, "epoch batches", epoch).permutation(len(batches))
    return [batches[i] for i in order[rank :: plan.world_size]]


class EpochLoader:
    """Iterating gives the batches of one epoch, as lists of `Latents`; iterating again, those of the next.

    `workers` processes read ahead. Broken records are left out of their batch and counted in `store.problems`.
    `state`, two integers, is where the last batch given ended: a loader that is set to it goes on with the next one.
    """

    def __init__(self, store: ShardedLatents, plan: BatchPlan, rank: int = 0, workers: int = 0) -> None:
        self.store, self.plan, self.rank, self.workers = store, plan, rank, workers
        self.state = {"epoch": 0, "batch": 0}

    def __iter__(self) -> Iterator[list[Latents]]:
        batches = epoch_batches(self.plan, self.state["epoch"], self.rank)[self.state["batch"] :]
        loader = DataLoader(_Batches(self.store), batch_size=None, sampler=batches, num_workers=self.workers)
        for clips, tensors, problems in loader:
            self.store.note(problems)
            self.state = self.state | {"batch": self.state["batch"] + 1}
            if clips:
                parts: dict[str, Any] = {name: tensor.unbind() for name, tensor in tensors.items()}
                yield [replace(clip, **{name: part[i] for name, part in parts.items()}) for i, clip in enumerate(clips)]
        self.state = {"epoch": self.state["epoch"] + 1, "batch": 0}


class ShardedText:
    """A `TextEncoder` that knows the texts of the shards and the empty one; it encodes nothing itself."""

    def __init__(self, shards: ShardedLatents) -> None:
        self.shards = shards
        self.dim, self.max_length = int(shards.text["dim"]), int(shards.text["max_length"])
        self.empty = self._empty(shards.folders[0] / EMPTY_NAME)
        self.places: dict[str, list[str]] = {}
        for name, record in shards.records.items():
            for key in record.tokens:
                self.places.setdefault(key, []).append(name)

    def _empty(self, file: Place) -> Tensor:
        """Read the embedding of the empty text. UserError if it is not there, or of another size."""
        try:
            with local_copy(file) as path:
                empty = load_file(path)["text"]
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(f"{file}: cannot be read ({error}); run scripts/encode.py again, which writes it") from None
        if empty.ndim != 2 or empty.shape[1] != self.dim or len(empty) > self.max_length:
            raise UserError(f"{file}: is {list(empty.shape)}, not [tokens, {self.dim}]; run scripts/encode.py again")
        return empty

    def encode(self, prompts: list[str]) -> Tensor:
        """float32 [B, max_length, dim] on the CPU. UserError for a text that is in no record."""
        return unpack_texts([self._tokens(prompt) for prompt in prompts], self.max_length, self.dim)

    def _tokens(self, prompt: str) -> Tensor:
        if not prompt:
            return self.empty
        key = text_key(prompt)
        if name := next((name for name in self.places.get(key, []) if name in self.shards.records), None):
            return self.shards.member(name, "texts")[key]
        raise UserError(f"no record of the shards has the text {prompt[:80]!r}; give the text encoder that made them")


class _Batches(Dataset[Any]):
    """A batch, by the names of its clips: clips without tensors, these stacked (few to hand over), problems found."""

    def __init__(self, store: ShardedLatents) -> None:
        self.store = store

    def __getitem__(self, names: list[str]) -> tuple[list[Latents], dict[str, Tensor], list[Problem]]:
        before = len(self.store.problems)
        clips = [clip for clip in map(self.store.read, names) if clip is not None]
        parts = {part: [held for clip in clips if (held := getattr(clip, part)) is not None] for part in TENSORS}
        tensors = {part: torch.stack(held) for part, held in parts.items() if 0 < len(held) == len(clips)}
        bare: Any = dict.fromkeys(TENSORS)
        return [replace(clip, **bare) for clip in clips], tensors, self.store.problems[before:]

"""Which clips and tasks a micro-batch holds, as pure functions of the step: nothing to save."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from typing import TypeVar

from shared.utils.rng import numpy_generator

Name = TypeVar("Name", bound=str)
Shape = tuple[int, int]


class BatchPlan:
    """Clips of equal (F, A) shape together, in an order that depends on the seed alone.

    Each bucket (shape) is an endless stream of its clips, shuffled anew every time round, cut into batches of
    `micro_batch * world_size` clips: a batch may hold the end of one round and the start of the next. A cycle of the
    plan takes round(clips / batch) batches, at least one, from each bucket, in shuffled order; so buckets are seen in
    proportion to their clips, up to that rounding.

    `token_budget` limits F * tokens_per_frame + A tokens per micro-batch: longer clips, smaller batches.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], seed: int, micro_batch: int, world_size: int, accumulation: int,
        token_budget: int | None = None, tokens_per_frame: int = 1,
    ) -> None:  # fmt: skip
        if not shapes:
            raise ValueError("no clips to train on")
        self.seed, self.world_size, self.accumulation = seed, world_size, accumulation
        self.buckets: dict[Shape, list[str]] = {}
        for clip in sorted(shapes):
            self.buckets.setdefault(shapes[clip], []).append(clip)
        self.micro: dict[Shape, int] = {}  # clips per rank and micro-batch
        self.turns: list[Shape] = []  # the buckets of one cycle's batches, before shuffling
        self.per_cycle: dict[Shape, int] = {}
        for shape in sorted(self.buckets):
            tokens = shape[0] * tokens_per_frame + shape[1]
            fitting = micro_batch if token_budget is None else max(1, token_budget // tokens)
            self.micro[shape] = min(micro_batch, fitting)
            self.per_cycle[shape] = max(1, round(len(self.buckets[shape]) / (self.micro[shape] * world_size)))
            self.turns += [shape] * self.per_cycle[shape]
        self._cycle = lru_cache(4)(self._shuffled_cycle)
        self._round = lru_cache(4 * len(self.buckets))(self._shuffled_round)

    def at(self, step: int, micro: int, rank: int) -> list[str]:
        """Ids of one rank's micro-batch; every rank's have the same shape and number."""
        cycle, turn = divmod(step * self.accumulation + micro, len(self.turns))
        shape, index = self._cycle(cycle)[turn]
        size, clips = self.micro[shape], self.buckets[shape]
        first = ((cycle * self.per_cycle[shape] + index) * self.world_size + rank) * size
        places = (divmod(place, len(clips)) for place in range(first, first + size))
        return [self._round(shape, turn)[place] for turn, place in places]

    def _shuffled_cycle(self, cycle: int) -> list[tuple[Shape, int]]:
        """Bucket of each batch, and which of the bucket's batches in this cycle it is."""
        order = numpy_generator(self.seed, "cycle", cycle).permutation(len(self.turns))
        counts = {shape: count() for shape in self.buckets}
        return [(self.turns[i], next(counts[self.turns[i]])) for i in order]

    def _shuffled_round(self, shape: Shape, turn: int) -> list[str]:
        clips = self.buckets[shape]
        return [clips[i] for i in numpy_generator(self.seed, "round", shape, turn).permutation(len(clips))]


def draw_tasks(weights: Mapping[Name, float], seed: int, step: int, micro: int, n: int) -> list[Name]:
    """Tasks of the n samples of a micro-batch, grouped, the same on every rank.

    Systematic sampling: one uniform offset, n equidistant points on the weights laid end to end. Each count is its
    expected value rounded up or down, and right on average. Weights need not sum to 1.
    """
    names = [name for name, weight in weights.items() if weight > 0]
    total = sum(weights[name] for name in names)
    offset = numpy_generator(seed, "tasks", step, micro).random()
    drawn, end = list[Name](), 0.0
    for name in names:
        end += weights[name] / total
        while len(drawn) < n and (len(drawn) + offset) / n < end:
            drawn.append(name)
    return drawn + [names[-1]] * (n - len(drawn))  # the ends may sum to just under 1

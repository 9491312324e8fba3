"""Which clips and tasks a micro-batch holds, as pure functions of the step: nothing to save."""

from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from typing import TypeVar

from shared.utils.rng import numpy_generator

Name = TypeVar("Name", bound=str)
Shape = tuple[int, ...]


class BatchPlan:
    """Clips of equal (F, A) shape together, in an order that depends on the seed alone.

    Each bucket (shape) is an endless stream of its clips, shuffled anew every time round, cut into batches of
    `micro * world_size` clips: a batch may hold the end of one round and the start of the next. A cycle of the plan has
    clips / batch batches of each bucket, in shuffled order. Where that is no whole number, some cycles have one more
    than others: over many cycles buckets come in exact proportion to their clips, however small they are.

    `micro`, the clips of one rank's micro-batch, is `micro_batch`; `token_budget` limits its F * tokens_per_frame + A
    tokens: longer clips, smaller batches. Without `micro_batch` the budget alone says how many clips there are, at
    least one, and no more than the bucket has, so that no batch holds a clip twice.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], seed: int, micro_batch: int | None, world_size: int, accumulation: int,
        token_budget: int | None = None, tokens_per_frame: int = 1,
    ) -> None:  # fmt: skip
        if not shapes:
            raise ValueError("no clips to train on")
        if micro_batch is None and token_budget is None:
            raise ValueError("neither micro_batch nor token_budget says how many clips a batch holds")
        self.seed, self.world_size, self.accumulation = seed, world_size, accumulation
        self.buckets: dict[Shape, list[str]] = {}
        for clip in sorted(shapes):
            self.buckets.setdefault(shapes[clip], []).append(clip)
        self.micro: dict[Shape, int] = {}  # clips per rank and micro-batch
        self.offsets: dict[Shape, int] = {}  # clips into its first batch at which a bucket begins to count
        for shape in sorted(self.buckets):
            most = micro_batch or max(1, len(self.buckets[shape]) // world_size)
            tokens = shape[0] * tokens_per_frame + shape[1]
            self.micro[shape] = most if token_budget is None else min(most, max(1, token_budget // tokens))
            batch = self.micro[shape] * world_size
            self.offsets[shape] = int(numpy_generator(seed, "offset", shape).integers(batch))
        self.batches_per_cycle = sum(len(self.buckets[s]) / (self.micro[s] * world_size) for s in self.buckets)
        self._cycle = lru_cache(4)(self._shuffled_cycle)
        self._round = lru_cache(4 * len(self.buckets))(self._shuffled_round)

    def at(self, step: int, micro: int, rank: int) -> list[str]:
        """Ids of one rank's micro-batch; every rank's have the same shape and number."""
        shape, batch = self._turn(step, micro)
        size, clips = self.micro[shape], self.buckets[shape]
        first = (batch * self.world_size + rank) * size
        places = (divmod(place, len(clips)) for place in range(first, first + size))
        return [self._round(shape, turn)[place] for turn, place in places]

    def clips_per_micro(self, step: int) -> float:
        """Clips of a rank's micro-batch, on average over those of a step: what the losses of a step are divided by."""
        shapes = [self._turn(step, micro)[0] for micro in range(self.accumulation)]
        return sum(self.micro[shape] for shape in shapes) / self.accumulation

    def _turn(self, step: int, micro: int) -> tuple[Shape, int]:
        """Bucket of a micro-step, and which of the bucket's batches it is."""
        number = step * self.accumulation + micro
        most = int((number + len(self.buckets)) / self.batches_per_cycle) + 2
        cycle = bisect_right(range(most), number, key=self._before) - 1
        return self._cycle(cycle)[number - self._before(cycle)]

    def _before(self, cycle: int) -> int:
        """Count the batches of all buckets before a cycle."""
        return sum(self._taken(shape, cycle) for shape in self.buckets)

    def _taken(self, shape: Shape, cycle: int) -> int:
        """Count the batches of one bucket before a cycle."""
        return (cycle * len(self.buckets[shape]) + self.offsets[shape]) // (self.micro[shape] * self.world_size)

    def _shuffled_cycle(self, cycle: int) -> list[tuple[Shape, int]]:
        """Bucket of each batch of a cycle, and which of the bucket's batches it is."""
        turns = [s for s in self.micro for _ in range(self._taken(s, cycle), self._taken(s, cycle + 1))]
        counts = {shape: count(self._taken(shape, cycle)) for shape in self.buckets}
        order = numpy_generator(self.seed, "cycle", cycle).permutation(len(turns))
        return [(turns[i], next(counts[turns[i]])) for i in order]

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

"""Measure clips with all metrics at once, a clip decoded once; what is measured of a clip stays on the disk.

OUTPUT/clips/SET/ holds two files per clip: what each metric says of it, and features for distances of sets. A number is
taken from there as long as the clip's files, the metric's preprocessing and its weights are the same, so that a run
that was stopped, or one with more metrics, goes on to the numbers of a whole one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.clip_key import clip_key
from shared.data.manifest import Clip
from shared.evaluation.clip_media import FileMedia
from shared.evaluation.metrics.base import NEEDS, Metric, Result
from shared.evaluation.score_clips import ClipSet
from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing, write_json
from shared.utils.parallel import process_pool, start_method

READING = "1"
"""Counts how clips are read for metrics: with another number, everything is measured again."""
CLIPS = "clips"

Results = dict[str, Result]
Build = Callable[[], Mapping[str, Metric]]
_worker: dict[str, Any] = {}  # of a process of the pool: its metrics


def digest(content: object) -> str:
    """Short hash of what JSON can hold, as of a metric's preprocessing."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Work:
    """One clip: `wanted` metrics and the hash of each, the frame rate it must have, and where its results are kept."""

    clip: Clip
    wanted: Mapping[str, str]
    fps: float | None
    file: Path

    @classmethod
    def of(cls, folder: Path, clip: Clip, wanted: Mapping[str, str], fps: float | None) -> Work:
        """Name the file after the clip, as far as a file can have its name, and a hash of it."""
        plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in clip.id)[:80]
        return cls(clip, wanted, fps, folder / f"{plain}.{hashlib.sha256(clip.id.encode()).hexdigest()[:8]}.json")

    def key(self) -> str:
        """Hash of the clip's files, cut, text and the frame rate that is asked for."""
        return clip_key(self.clip, self.clip.files().values(), (READING, self.clip.caption, str(self.fps)))

    def kept(self) -> Results:
        """Find what was measured already of this clip, in this way."""
        found, features = self._read()
        results = {}
        for name, wanted in self.wanted.items():
            values = found.get(name, {})
            row = features.get(f"{name}.{wanted}")
            if values.get("hash") == wanted and (row is not None or not values["rows"]):
                results[name] = Result(values["value"], values["refused"], values["facts"], values["weight"], row)
        return results

    def keep(self, results: Results) -> None:
        """Write results beside those of other metrics; features first, for a record without them is not believed."""
        metrics, arrays = self._read()
        arrays |= {f"{name}.{self.wanted[name]}": r.features for name, r in results.items() if r.features is not None}
        metrics |= {name: self._record(name, result) for name, result in results.items()}
        if arrays:
            with replacing(self.file.with_suffix(".npz")) as part, open(part, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        write_json(self.file, {"id": self.clip.id, "key": self.key(), "metrics": metrics})

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read records by metric, and features by metric and hash; nothing of files that have changed since."""
        if not self.file.exists():
            return {}, {}
        advice = "delete it to measure this clip anew"
        record = read_json(self.file, advice=advice)
        if record.get("key") != self.key():
            return {}, {}
        features = self.file.with_suffix(".npz")
        try:
            with np.load(features, allow_pickle=False) as arrays:
                return record["metrics"], dict(arrays)
        except FileNotFoundError:
            return record["metrics"], {}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{features} is damaged ({error}); {advice}") from None

    def _record(self, name: str, result: Result) -> dict[str, Any]:
        return {
            "hash": self.wanted[name], "value": result.value, "refused": result.refused, "weight": result.weight,
            "facts": jsonable(result.facts), "rows": 0 if result.features is None else len(result.features),
        }  # fmt: skip


def jsonable(value: Any) -> Any:
    """Make of facts what JSON can hold: Python's numbers and lists of numpy's, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(work: Work, metrics: Mapping[str, Metric]) -> Results:
    """Results of one clip, kept ones and new ones, all kept then. What FFmpeg or a reader says against the clip refuses
    it for each metric; what is said of anything else stops the run."""
    kept = work.kept()
    media = FileMedia(work.clip, work.clip.caption or None)
    missing = [name for name in work.wanted if name not in kept]
    new = {name: _checked(_measured(metrics[name], media, work)) for name in missing}
    if new:
        work.keep(new)
    return {name: (kept | new)[name] for name in work.wanted}


def _measured(metric: Metric, media: FileMedia, work: Work) -> Result:
    try:
        for need, reason in NEEDS.items():
            if need in metric.needs and not media.has(need):
                return Result(None, reason)
        if work.fps is not None and media.fps and abs(media.fps - work.fps) > 0.01 * work.fps:
            return Result(None, f"{media.fps:g} frames per second; {work.fps:g} are asked for")
        return metric.clip(media)
    except UserError as error:
        named = [path for path in map(str, work.clip.files().values()) if path in str(error)]
        if not named:
            raise  # it is said of something else, as weights
        return Result(None, str(error).removeprefix(f"{max(named, key=len)}: "))


def _checked(result: Result) -> Result:
    if result.value is not None and not math.isfinite(result.value):
        return Result(None, f"its value is {result.value}", result.facts)
    return result


def works_of(one: ClipSet, output: Path, wanted: Mapping[str, str], fps: float | None) -> list[Work]:
    """Works of a set of clips; `wanted`: metrics and the hash of each."""
    folder = output / CLIPS / one.name
    folder.mkdir(parents=True, exist_ok=True)
    return [Work.of(folder, clip, wanted, fps) for clip in one.clips]


def measure_all(
    works: Sequence[Work], metrics: Mapping[str, Metric], workers: int = 1, rebuild: Build | None = None
) -> Iterator[Results]:
    """Results of each work in order. With several `workers` each has the metrics by `rebuild()`, which is pickled, as
    CUDA needs it; without it they are this process's own, which the others are forked from."""
    if (count := min(workers, len(works))) <= 1:
        yield from (measure(work, metrics) for work in works)
        return
    method, build = ("spawn", rebuild) if rebuild else (start_method(), lambda: metrics)
    threads = max(1, (os.cpu_count() or 1) // count)
    with process_pool(count, method, _begin, (build, threads)) as pool:
        yield from pool.map(_measure_in_pool, works)


def _begin(build: Build, threads: int) -> None:
    """Make the metrics of a process, which computes with so many threads: more would wait for each other."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    _worker["metrics"] = build()


def _measure_in_pool(work: Work) -> Results:
    return measure(work, _worker["metrics"])

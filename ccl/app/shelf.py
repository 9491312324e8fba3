"""Models of the page: loaded when they are first asked for, a few at a time. Used by the thread of the jobs alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccl.app.options import AppOptions, label
from shared.checkpoint.folder import check_checkpoint, check_driven, check_joint
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.startup import quick_imports

if TYPE_CHECKING:
    from ccl.pipeline import CCLPipeline
    from mtv.pipeline import MTVPipeline

MOST = 2  # pipelines in memory: what Compare needs


class Shelf:
    """The checkpoints that the page offers, by label, alone and with each adapter. UserError for a folder that is none,
    or can do neither."""

    def __init__(self, options: AppOptions) -> None:
        self.options = options
        self.models: dict[str, tuple[Path, str | None]] = {}
        self.joint_names: list[str] = []
        self.driven_names: list[str] = []
        for path in options.checkpoint:
            name = label(path)
            offered = {name: None, **{f"{name} with {label(Path(text))}": text for text in options.lora}}
            self.models |= {one: (path, text) for one, text in offered.items()}
            index = check_checkpoint(path, options.trust_package)
            reasons = []
            for names, check in ((self.joint_names, check_joint), (self.driven_names, check_driven)):
                try:
                    check(index, f"checkpoint {path}: ")
                except UserError as error:
                    reasons.append(str(error))
                else:
                    names += offered
            if len(reasons) == 2:
                raise UserError(reasons[0])
        self._loaded: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def model_options(self, name: str) -> dict[str, Any]:
        """Options of a sampling script for the checkpoint of this label. UserError for one that is not offered."""
        if name not in self.models:
            raise UserError(f"checkpoint {name!r}: choose one of {', '.join(self.models)}")
        return self.options.of_model(*self.models[name])

    def is_few_steps(self, name: str) -> bool:
        """Whether the checkpoint of this label is distilled for few steps."""
        file = self.models[name][0] / "transformer" / "config.json"
        return bool(read_json(file).get("distilled")) if file.is_file() else False

    def joint(self, options: Any) -> CCLPipeline:
        """Load the joint pipeline of the options of a sampling script."""
        with quick_imports():
            from ccl.pipeline import CCLPipeline

        pipeline: CCLPipeline = self._get("joint", options, lambda: _load(CCLPipeline, options))
        return pipeline

    def driven(self, options: Any) -> MTVPipeline:
        """Load the pipeline that tracks drive."""
        with quick_imports():
            from mtv.pipeline import MTVPipeline

        pipeline: MTVPipeline = self._get("driven", options, lambda: _load(MTVPipeline, options))
        return pipeline

    def _get(self, kind: str, options: Any, load: Callable[[], Any]) -> Any:
        key = kind, str(options.checkpoint), *options.lora
        if key not in self._loaded:
            while len(self._loaded) >= MOST:  # the one that was not asked for the longest
                self._loaded.popitem(last=False)
            self._loaded[key] = load()
        self._loaded.move_to_end(key)
        return self._loaded[key]


def _load(kind: type[Any], options: Any) -> Any:
    from shared.checkpoint.loading import load_model

    pipeline = load_model(kind, options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

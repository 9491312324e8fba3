"""Audio-driven video by multi-stream temporal control (arXiv 2506.08003)."""

from typing import TYPE_CHECKING

import shared

if getattr(shared, "PROJECT", "") != "ccl":
    raise ImportError(
        f"{shared}: another package named shared comes before this project's; uninstall or rename it, or put this "
        "project's folder first on PYTHONPATH"
    )
from shared.utils.lazy import lazy

if TYPE_CHECKING:
    from mtv.pipeline import MTVOutput, MTVPipeline

__all__ = ["MTVOutput", "MTVPipeline"]
__getattr__ = lazy(__name__, dict.fromkeys(__all__, "mtv.pipeline"))

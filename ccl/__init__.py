"""Joint audio-video generation by Cross-Modal Context Learning (arXiv 2603.18600)."""

from typing import TYPE_CHECKING

import shared

if getattr(shared, "PROJECT", "") != "ccl":
    raise ImportError(
        f"{shared}: another package named shared comes before this project's; uninstall or rename it, or put this "
        "project's folder first on PYTHONPATH"
    )
from shared.utils.lazy import lazy

if TYPE_CHECKING:
    from ccl.pipeline import CCLOutput, CCLPipeline
    from shared.nn.cache_context import StreamCacheConfig

__all__ = ["CCLOutput", "CCLPipeline", "StreamCacheConfig"]
__version__ = "0.1.0"
__getattr__ = lazy(
    __name__,
    {"CCLOutput": "ccl.pipeline", "CCLPipeline": "ccl.pipeline", "StreamCacheConfig": "shared.nn.cache_context"},
)

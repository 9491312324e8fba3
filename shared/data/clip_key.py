"""What decides how a clip is read, in one hash: what was made of it is kept as long as that is the same."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from shared.data.manifest import Clip
from shared.utils.errors import UserError

#: Counts how files are read: with another number, whatever was made of a clip is made again.
_READING = "2"


def clip_key(clip: Clip, paths: Iterable[Path | None], common: Sequence[str]) -> str:
    """Hash of a clip's cut and audio track, its files at `paths` (name, time, size) and `common`.

    UserError for a file that is gone.
    """
    parts = [_READING, *common, clip.id, str(clip.start), str(clip.end), str(clip.audio_track)]
    try:
        for path in filter(None, paths):
            stat = path.stat()
            parts += [path.name, str(stat.st_mtime_ns), str(stat.st_size)]
    except OSError as error:
        raise UserError(f"clip {clip.id!r}: {error.filename}: {error.strerror}") from None
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]

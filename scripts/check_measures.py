"""Say what each measure of evaluate.py says of true clips, by chance, and of clips that are made to fool it.

    python scripts/check_measures.py --clips 80
    python scripts/check_measures.py --clips 80 --document docs/measures.md      # writes the table into the document

The clips pass through the codecs of a checkpoint; nothing is sampled. A fake that no measure catches is an error.
"""

from pathlib import Path
from typing import Literal

from shared.checkpoint.folder import check_checkpoint, load_checkpoint
from shared.checkpoint.registry import find_component, load_component
from shared.utils.cli import TrustOptions, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.files import replaced, write_atomically
from shared.utils.ranges import Pair
from shared.utils.text_files import is_file


class MeasuresOptions(TrustOptions):
    checkpoint: Path = option(Path("assets/puppets"), "whose codecs the clips pass through", metavar="DIR")
    codecs: Path | None = option(
        None, "folder with video_codec/ and audio_codec/, instead of the checkpoint's", metavar="DIR"
    )
    level: Literal["simple", "full", "shows"] = option("simple")
    style: Literal["stage", "cutout"] = option("stage", "how the clips look and sound; others have no fakes of theirs")
    clips: Pair = option(80, "held-out clips; a measure is shown from 30 clips on that it counts on")
    ceilings: bool = option(False, "no fakes: ceilings and floors alone, in a tenth of the time")
    document: Path | None = option(None, "Markdown with marks for the table", metavar="FILE")


def main(argv: list[str] | None = None) -> None:
    options = parse(MeasuresOptions, __doc__, argv)
    check_checkpoint(options.checkpoint, options.trust_package)
    found = {
        name: find_component(name, options.codecs, options.trust_package)
        for name in ("video_codec", "audio_codec")
        if options.codecs is not None
    }
    text, document = "", options.document
    if document is not None and options.ceilings:
        raise UserError("--document holds the table with its fakes; leave out --ceilings")
    if document is not None:
        if not is_file(document):
            raise UserError(f"--document {document}: no such file; give a document that has marks for the table")
        text = document.read_text(encoding="utf-8")
        replaced(text, options.level, "", document)  # has it the marks?
    from ccl.pipeline import CCLPipeline
    from mtv.pipeline import MTVPipeline  # noqa: F401  # a folder's parts are loaded from modules that are imported
    from shared.evaluation.fakes_table import fakes_table, measure_fakes

    pipeline = load_checkpoint(CCLPipeline, options.checkpoint, None, "cpu", options.trust_package)
    pipeline.register_modules(**{name: load_component(source) for name, source in found.items()})
    scores = measure_fakes(pipeline, options.level, options.clips, not options.ceilings, options.style)
    table = fakes_table(scores, options.clips)
    print(table)
    if document is not None:
        write_atomically(document, replaced(text, options.level, table, document))


if __name__ == "__main__":
    run_main(main)

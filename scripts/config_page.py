"""Write docs/configuration.md, the page of all keys, from the descriptions in the schema. `make docs` calls this."""

from __future__ import annotations

from pathlib import Path

from shared.utils.cli import Options, option, parse
from shared.utils.errors import UserError, run_main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
TEXT = """\
# Configuration keys

*Made by `make docs` from the descriptions in the code; change them there: `shared/utils/config.py`,
`shared/utils/config_sections.py`, `mtv/curriculum.py`, and the docstrings of the two models.*

The keys of a file of `configs/train/`, for `scripts/train_ccl.py` and `scripts/train_mtv.py`. In a file a section is an
indented block; `--set SECTION.KEY=VALUE` sets one key from the command line. Their use: [training.md](training.md).

{run}
# Keys of a run in stages

`scripts/train_mtv.py` takes these beside the keys above ([mtv.md](mtv.md#training)).

{stages}
# Keys of a model

`model`, a file of `configs/model/`. Channels and text width are filled in from the codecs and the text encoder.

{model}
## A stream

What `video` and `audio` of a model hold.

{stream}
# Keys of a control network

`control`, a file of `configs/model/`. The backbone's sizes and the widths of the tracks' features are filled in.

{control}"""


class PageOptions(Options):
    check: bool = option(False, "write nothing; fail if the page is not what the code says")


def main(argv: list[str] | None = None) -> None:
    options = parse(PageOptions, __doc__, argv)
    page = make_page()
    if not options.check:
        PAGE.write_text(page, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page:
        raise UserError(f"{PAGE}: is not what the code says; run make docs")


def make_page() -> str:
    """Markdown of the whole page."""
    from ccl.transformer import DualStreamTransformer
    from mtv.control import MSTControlNet
    from mtv.curriculum import CurriculumConfig
    from shared.nn.dit import StreamConfig
    from shared.utils.config import TrainConfig
    from shared.utils.config_page import argument_table, key_tables

    return TEXT.format(
        run=key_tables(TrainConfig),
        stages=key_tables(CurriculumConfig, ["backbone", "stages"]),
        model=argument_table(DualStreamTransformer),
        stream=argument_table(StreamConfig, "Attributes:"),
        control=argument_table(MSTControlNet),
    )


if __name__ == "__main__":
    run_main(main)

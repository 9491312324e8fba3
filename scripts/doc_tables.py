"""Write the tables of docs/ that are made, not written: configuration keys, and scores of the shipped checkpoint.

    python scripts/doc_tables.py            # rewrite the tables
    python scripts/doc_tables.py --check    # only compare; exit code 2 if a table is not what code and files say
    python scripts/doc_tables.py --compare outputs/simple outputs/simple_4s    # print tables of evaluations

The keys come from the descriptions in the schema. The scores come from the files that evaluate.py wrote:
assets/puppets/metrics*.json, and assets/puppets/curve/*.json along the way; and those of assets/puppets_few.

--compare prints what the given evaluations of one checkpoint say: goals, and whether one condition (another length,
frame rate, text ...) is as good as another, clip by clip (docs/measures.md).
"""

from collections.abc import Iterator
from pathlib import Path

from shared.evaluation.checkpoint_tables import control, curve, results
from shared.evaluation.conditions import conditions_page, read_evaluations
from shared.utils.cli import Options, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.files import replaced

ROOT = Path(__file__).resolve().parents[1]


class TableOptions(Options):
    check: bool = option(False, "change nothing; fail if a table is out of date")
    compare: list[Path] | None = option(None, "folders that evaluate.py wrote, of one checkpoint", metavar="DIR")


def main(argv: list[str] | None = None) -> None:
    options = parse(TableOptions, __doc__, argv)
    if options.compare is not None:
        if options.check:
            raise UserError("--compare writes no document; leave --check out")
        print(conditions_page(read_evaluations(options.compare)))
        return
    for path, name, block in blocks():
        file = ROOT / path
        text = file.read_text(encoding="utf-8")
        new = replaced(text, name, block, file)
        if not options.check:
            file.write_text(new, encoding="utf-8")
        elif new != text:
            raise UserError(f"{file.name}: the {name} are not what code and assets/puppets say; run make docs")


def blocks() -> Iterator[tuple[str, str, str]]:
    """Document, name of the marks in it, and what stands between them."""
    from ccl.transformer import DualStreamTransformer
    from mtv.control import MSTControlNet
    from mtv.curriculum import CurriculumConfig
    from shared.curation.config import DemixConfig
    from shared.evaluation.few_step_tables import few_steps
    from shared.nn.dit import StreamConfig
    from shared.utils.config import TrainConfig
    from shared.utils.config_page import argument_table, key_tables

    metrics, keys = ROOT / "assets/puppets", "docs/configuration.md"
    yield "docs/checkpoint.md", "results", results(metrics)
    yield "docs/mtv.md", "control", control(metrics)
    yield "docs/checkpoint.md", "curve", curve(metrics)
    yield "docs/checkpoint.md", "few steps", few_steps(ROOT / "assets/puppets_few", metrics)
    yield keys, "keys of a run", key_tables(TrainConfig)
    yield keys, "keys of stages", key_tables(CurriculumConfig, ["backbone", "diffusion_loss", "stages"])
    yield "docs/curation.md", "keys of a data set", key_tables(DemixConfig).replace("\n## ", "\n### ")
    yield keys, "keys of a model", argument_table(DualStreamTransformer)
    yield keys, "keys of a stream", argument_table(StreamConfig, "Attributes:")
    yield keys, "keys of a control network", argument_table(MSTControlNet)


if __name__ == "__main__":
    run_main(main)

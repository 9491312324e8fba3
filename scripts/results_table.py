"""Write the tables of the shipped checkpoint's scores, in docs/{checkpoint,mtv}.md, from its metrics files.

    python scripts/results_table.py            # rewrite the tables
    python scripts/results_table.py --check    # only compare; exit code 2 if a table is not what the files say

The files are those that evaluate.py wrote: assets/puppets/metrics*.json, and assets/puppets/curve/*.json along the way.
"""

from __future__ import annotations

from pathlib import Path

from shared.evaluation.checkpoint_tables import control, curve, results
from shared.utils.cli import Options, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.files import replaced

ROOT = Path(__file__).resolve().parents[1]
METRICS = "assets/puppets"
BLOCKS = (
    ("docs/checkpoint.md", "results", results),
    ("docs/mtv.md", "control", control),
    ("docs/checkpoint.md", "curve", curve),
)
"""Document, name of the marks in it, and what stands between them."""


class TableOptions(Options):
    check: bool = option(False, "change nothing; fail if a table is out of date")


def main(argv: list[str] | None = None) -> None:
    options = parse(TableOptions, __doc__, argv)
    for path, name, make in BLOCKS:
        file = ROOT / path
        text = file.read_text(encoding="utf-8")
        new = replaced(text, name, make(ROOT / METRICS), file)
        if not options.check:
            file.write_text(new, encoding="utf-8")
        elif new != text:
            raise UserError(f"{file.name}: the {name} are not what {METRICS} holds; run scripts/results_table.py")


if __name__ == "__main__":
    run_main(main)

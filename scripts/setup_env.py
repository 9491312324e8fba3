"""Last step of the installation, done by `make setup`: make torchaudio importable beside a CPU build of torch.

`shared.utils.environment` says why; `python -m shared.utils.environment` does the same after `pip install .`.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.utils import cli, environment
from shared.utils.cli import parse
from shared.utils.errors import run_main


class Options(cli.Options):
    pass


def main(argv: Sequence[str] | None = None) -> None:
    """Mend what is there, and print what was done."""
    parse(Options, __doc__, argv)
    environment.main()


if __name__ == "__main__":
    run_main(main)

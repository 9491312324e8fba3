"""Last step of the installation, done by `make setup`: make torchaudio importable beside a CPU build of torch.

`shared.utils.environment` says why; `python -m shared.utils.environment` does the same after `pip install .`.
"""

from __future__ import annotations

import argparse

from shared.utils import environment
from shared.utils.errors import UserError, run_main


def main(argv: list[str] | None = None) -> None:
    """Mend what is there, and print what was done; this needs no package but those that it looks at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if unknown := parser.parse_known_args(argv)[1]:
        raise UserError(f"unknown option {unknown[0]}; the nearest is --help (see --help)")
    environment.main()


if __name__ == "__main__":
    run_main(main)

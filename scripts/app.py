"""Open a page in the browser: make clips, drive puppets by sound, look into clips and models, compare.

    python scripts/app.py
    python scripts/app.py --checkpoint assets/puppets outputs/mine/checkpoint --port 8080
    python scripts/app.py --lora outputs/mine/lora

It prints its address, which only this machine reaches (--host says otherwise), and ends with Ctrl-C. Nothing is sent
anywhere. What is needed: pip install --constraint constraints.txt --editable '.[app]'; docs/app.md has the rest.
"""

from ccl.app.options import AppOptions
from shared.utils.cli import parse
from shared.utils.errors import run_main


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is stopped."""
    options = parse(AppOptions, __doc__, argv)
    from ccl.app.page import serve

    serve(options)


if __name__ == "__main__":
    run_main(main)

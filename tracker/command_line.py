"""Command lines of the project's programs."""

import argparse
from typing import Any, NoReturn

from tracker.errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """Usage errors are bad input like any other: one line, exit code 1; options are not abbreviated."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Raises an InputError where argparse would print the usage and exit with 2."""
        raise InputError(f"{message}; see --help")

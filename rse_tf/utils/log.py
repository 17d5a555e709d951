"""Progress on the terminal and in log files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_hushed = False
_verbose = False


def silence() -> None:
    """Keeps this process silent from now on: of several that share a run, only one speaks."""
    global _hushed
    _hushed = True


def speak_at_length() -> None:
    """Lets this process print details from now on."""
    global _verbose
    _verbose = True


def is_verbose() -> bool:
    """Whether details are wanted."""
    return _verbose


def log(text: object) -> None:
    """Prints a line at once."""
    if not _hushed:
        print(text, flush=True)


def progress_bar(iterable: Iterable[T], total: int, description: str) -> Iterable[T]:
    """Shows how far an iteration is: live on a terminal, twice a minute in a log file."""
    is_terminal = sys.stderr.isatty()
    interval = 0.2 if is_terminal else 30.0
    return tqdm(
        iterable,
        description,
        total,
        leave=False,
        mininterval=interval,
        delay=0.0 if is_terminal else interval,  # what is done by then leaves no trace in a file
        dynamic_ncols=True,
        disable=_hushed,
    )

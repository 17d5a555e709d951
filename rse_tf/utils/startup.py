"""TensorFlow's start-up notices, kept out of what our programs print."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator

# From TensorFlow 2.21 on, TF_CPP_MIN_LOG_LEVEL does not reach those of its C++ start. 303 is what a
# machine without a GPU answers.
_NOTICE = re.compile(
    r"WARNING: All log messages before absl::|I\d{4} |To enable the following instructions: "
    r"|E\d{4} .*failed call to cuInit.*\(303\)"
)


def is_own_program() -> bool:
    """Whether this process is `rse-tf` or `python -m rse_tf...`."""
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":  # until the module is found
        return any(word.split(".")[0] == "rse_tf" for word in sys.orig_argv[1:])
    return pathlib.Path(first).stem == "rse-tf"


def is_of_use(record: logging.LogRecord) -> bool:
    """Whether a line of TensorFlow's log is more than a wrong guess about our attacks.

    It counts the graphs of one line of code, and takes those of several attacks, each of which
    needs its own, for needless repetitions.
    """
    message = record.getMessage()
    return not ("triggered tf.function retracing" in message and "Attack._compile" in message)


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """Holds back what is written to the error output, and then writes all but the notices."""
    with tempfile.TemporaryFile() as kept:
        original = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            kept.seek(0)
            lines = kept.read().decode(errors="replace").splitlines(keepends=True)
            os.write(2, "".join(line for line in lines if not _NOTICE.match(line)).encode())

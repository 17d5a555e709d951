"""The programs of rse_tf under one name.

rse-tf COMMAND [--flag=value ...]     or     python -m rse_tf COMMAND [--flag=value ...]

`rse-tf train` is `python -m rse_tf.train`. --help behind a command lists its flags; --version
tells the version.
"""

import importlib
import runpy
import sys

import rse_tf

COMMANDS = ("main", "train", "evaluate", "certify", "export", "reproduce", "report")


def main() -> None:
    """Runs the program that the command line names, with the rest of the line."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command == "--version":
        print(f"rse_tf {rse_tf.__version__}")
    elif command in ("--help", "-h", "-help"):
        print(help_text())
    elif command in COMMANDS:
        sys.argv = [f"rse-tf {command}", *rest]
        runpy.run_module(f"rse_tf.{command}", run_name="__main__")
    else:
        names = ", ".join(COMMANDS)
        print(f"error: COMMAND must be one of {names}. Received: {command!r}", file=sys.stderr)
        sys.exit(2)


def help_text() -> str:
    """How the programs are called, and what each does."""
    modules = {name: importlib.import_module(f"rse_tf.{name}") for name in COMMANDS}
    lines = [f"  {name:<12}{str(m.__doc__).splitlines()[0]}" for name, m in modules.items()]
    return "\n".join([__doc__.strip(), "", *lines])


if __name__ == "__main__":
    main()

"""Builds tables and plots from finished runs.

python -m rse_tf.report RUN [RUN ...] [--output=report] [--table=rse/table2]

A RUN is the workdir of a run, or any folder that has some below it. With --table, their rows are
laid out as that table or figure of the papers.
"""

import dataclasses
import os
import pathlib
import sys

from absl import flags

from rse_tf import experiment
from rse_tf.config import ConfigError
from rse_tf.flags import Output, own_help, report_mistakes
from rse_tf.papers import TABLES, write_table
from rse_tf.reporting import format_table, load_galleries, read_json, write_report
from rse_tf.utils.files import reading


def main(arguments: list[str]) -> None:
    """Runs the program with its command line, the program's name first."""
    own = flags.FlagValues()
    flags.DEFINE_string("output", "report", "folder of the report", flag_values=own)
    flags.DEFINE_string("table", None, "table or figure to lay out as", flag_values=own)
    if {"--help", "-h", "-help"} & set(arguments):
        print(own_help(str(__doc__), own))
        return
    talk, arguments = Output.take(arguments)
    try:
        folders = own(arguments)[1:]
    except flags.Error as error:
        raise ConfigError(str(error)) from error
    table = own["table"].value
    if table not in (None, *TABLES):
        raise ConfigError(f"--table must be one of {', '.join(TABLES)}. Received: {table!r}")
    roots = [pathlib.Path(folder).expanduser() for folder in folders]
    found = (file for root in roots for file in root.rglob("result.json"))
    files = sorted({file.resolve(): file for file in found}.values())
    if not files:
        raise ConfigError(f"no finished run, with a result.json, in: {' '.join(folders) or '-'}")
    if talk.dry_run:
        print("\n".join(str(file.parent) for file in files))
        return
    # A table of the papers has a place for each row, whatever run it is from.
    names = [""] * len(files) if table else run_names([file.parent for file in files])
    rows, galleries = [], []
    advice = "delete it, and the command of its run writes it anew"
    for file, name in zip(files, names, strict=True):
        with reading(file, advice):
            rows += [dataclasses.replace(row, run=name) for row in read_json(file).rows]
        with reading(file.parent / "gallery_*.npz", advice):
            found_here = load_galleries(file.parent)
            galleries += [dataclasses.replace(one, run=name) for one in found_here]
    runs, versions = {"runs": [str(file.parent) for file in files]}, experiment.versions()
    output = pathlib.Path(own["output"].value).expanduser()
    if table is None:
        print(format_table(rows))
        paths = write_report(output, rows, galleries, flags=runs, versions=versions)
    else:
        head = f"Made by `python -m rse_tf.report {' '.join(arguments[1:])}`"
        paths = write_table(table, rows, output, head, galleries, flags=runs, versions=versions)
        print(paths[0].read_text())
    for path in paths:
        print(path)


def run_names(folders: list[pathlib.Path]) -> list[str]:
    """Returns a short name for each of several runs, none for a single one."""
    if len(folders) == 1:
        return [""]
    common = os.path.commonpath([folder.absolute() for folder in folders])
    return [folder.absolute().relative_to(common).as_posix() for folder in folders]


if __name__ == "__main__":
    report_mistakes(lambda: main(sys.argv))

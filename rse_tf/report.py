"""Builds tables and plots from finished runs, and compares them.

python -m rse_tf.report RUN [RUN ...] [--output=report] [--html] [--robustbench]
                        [--figure_format=png,pdf,svg] [--table=rse/table2]

A RUN is the workdir of a run, or a folder of runs. Of several, a first table shows what differs in
their settings and how far each defense falls. --html adds a page of its own for each run, in one
file; --robustbench a JSON entry in the form of RobustBench for each adaptive worst case. --table
lays their rows out as that table or figure of the papers.
"""

import pathlib
import sys
from typing import Any

from absl import flags

from rse_tf import experiment
from rse_tf.config import ConfigError
from rse_tf.flags import own_help, parse_own, report_mistakes
from rse_tf.papers import TABLES, write_table
from rse_tf.reporting import FIGURE_FORMATS, runs as reports
from rse_tf.reporting.runs import Run, find_runs, read_runs
from rse_tf.utils.log import log


def main(arguments: list[str]) -> None:
    """Runs the program with its command line, the program's name first."""
    own = flags.FlagValues()
    flags.DEFINE_string("output", "report", "folder of the report", flag_values=own)
    flags.DEFINE_string("table", None, "table or figure to lay out as", flag_values=own)
    flags.DEFINE_list("figure_format", ["png"], "of the pictures", flag_values=own)
    flags.DEFINE_bool("html", False, "write a page for each run", flag_values=own)
    flags.DEFINE_bool("robustbench", False, "write entries in its form", flag_values=own)
    if {"--help", "-h", "-help"} & set(arguments):
        print(own_help(str(__doc__), own))
        return
    talk, roots = parse_own(arguments, own)
    table, formats = own["table"].value, own["figure_format"].value
    if table not in (None, *TABLES):
        raise ConfigError(f"--table must be one of {', '.join(TABLES)}. Received: {table!r}")
    known = ", ".join(FIGURE_FORMATS)
    if not formats or set(formats) - set(FIGURE_FORMATS):
        raise ConfigError(f"--figure_format must be of {known}. Received: {','.join(formats)!r}")
    finished, begun = find_runs(pathlib.Path(root).expanduser() for root in roots)
    unfinished = [f"not finished: {folder}" for folder in begun]
    if talk.dry_run:
        log("\n".join(map(str, [*finished, *unfinished])))
        return
    # A table of the papers has a place for each row, whatever run it is from.
    runs = read_runs(finished, named=table is None)
    if not runs:
        raise ConfigError(f"no finished run, with a result.json, in: {' '.join(roots) or '-'}")
    output = pathlib.Path(own["output"].value).expanduser()
    head = f"Made by `python -m rse_tf.report {' '.join(arguments[1:])}`"
    paths = _write(runs, output, table, head, formats)
    paths += reports.write_pages(runs, output) if own["html"].value else []
    paths += reports.write_entries(runs, output) if own["robustbench"].value else []
    log("\n".join(map(str, [*paths, *unfinished])))


def _write(
    runs: list[Run], output: pathlib.Path, table: str | None, head: str, formats: list[str]
) -> list[pathlib.Path]:
    origin = {"runs": [str(run.folder) for run in runs]}
    facts: Any = {"flags": origin, "versions": experiment.versions(), "formats": formats}
    if table is not None:
        rows = [row for run in runs for row in run.result.rows]
        galleries = [gallery for run in runs for gallery in run.galleries]
        paths = write_table(table, rows, output, head, galleries, **facts)
        log(paths[0].read_text())
        return paths
    return reports.write_runs(runs, output, **facts)


if __name__ == "__main__":
    report_mistakes(lambda: main(sys.argv))

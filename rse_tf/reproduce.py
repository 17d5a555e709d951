"""Runs all rows of a table or figure of the papers and sets the paper's numbers beside ours.

python -m rse_tf.reproduce --table=rse/table2 [--scale=smoke|cpu|paper] [--rows='mnist_*'] ...

--list names all tables and figures. Further flags go on top of every row, such as
--num_images=100. What is finished is not run again, and a run that was killed goes on. --dry_run
tells what is finished.
"""

import os
import sys

from absl import flags

from rse_tf.config import ConfigError
from rse_tf.flags import own_help, parse_own, report_mistakes
from rse_tf.papers import reproduce as papers
from rse_tf.papers.row_files import list_tables
from rse_tf.utils.log import log


def main(arguments: list[str]) -> None:
    """Runs the program with its command line, the program's name first."""
    own = flags.FlagValues()
    flags.DEFINE_string("table", None, "the table or figure; see --list", flag_values=own)
    flags.DEFINE_string("scale", "paper", "smoke, cpu or paper", flag_values=own)
    flags.DEFINE_string("rows", "*", "which rows, such as 'mnist_*'", flag_values=own)
    flags.DEFINE_string("output", papers.OUTPUT, "folder of all runs", flag_values=own)
    flags.DEFINE_string("data_dir", None, "TensorFlow Datasets directory", flag_values=own)
    shard_help = "part of the work, such as 2/8; others do the rest"
    flags.DEFINE_string("shard", None, shard_help, flag_values=own)
    flags.DEFINE_bool("list", False, "name all tables and figures, with cost", flag_values=own)
    if {"--help", "-h", "-help"} & set(arguments):
        print(f"{own_help(str(__doc__), own)}\n\n{list_tables()}")
        return
    talk, extra = parse_own(arguments, own, known_only=True)
    if own["list"].value:
        print(list_tables())
        return
    if own["table"].value is None:
        raise ConfigError("--table=NAME is needed; --list names them all")
    table, scale, output, rows = (own[n].value for n in ("table", "scale", "output", "rows"))
    output = os.path.expanduser(output)
    shard = own["shard"].value and papers.Shard.parse(own["shard"].value)
    data_dir = own["data_dir"].value
    if talk.dry_run:
        print(papers.list_rows(table, scale, output, rows, extra, data_dir))
        return
    for path in papers.reproduce(table, scale, output, rows, extra, data_dir, shard):
        log(path)


if __name__ == "__main__":
    report_mistakes(lambda: main(sys.argv))

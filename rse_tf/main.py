"""Trains defenses, attacks them, and shows how robust they are.

python -m rse_tf.main [--dataset=mnist_5k] [--defense=none,rse] [--attack=carlini_wagner] ...
"""

from rse_tf import experiment, flags

if __name__ == "__main__":
    flags.launch(experiment.run, __doc__)

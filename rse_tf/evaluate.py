"""Attacks and scores defenses that are trained already.

python -m rse_tf.evaluate [--dataset=mnist_5k] [--defense=none,rse] [--attack=bim] ...
"""

from rse_tf import experiment, flags

if __name__ == "__main__":
    flags.launch(experiment.evaluate, __doc__)

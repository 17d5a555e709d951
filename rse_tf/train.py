"""Trains defenses and keeps them for later runs.

python -m rse_tf.train [--dataset=mnist_5k] [--defense=none,rse] [--epochs=N] ...
"""

from rse_tf import experiment, flags

if __name__ == "__main__":
    flags.launch(experiment.train, __doc__)

"""Exports a trained defense as a SavedModel for serving.

python -m rse_tf.export --export_dir=DIR [--dataset=mnist_5k] [--defense=rse] [--num_draws=50] ...
"""

from rse_tf import experiment, flags

if __name__ == "__main__":
    flags.launch(experiment.export, __doc__)

"""Exports a trained defense as a SavedModel for serving.

python -m rse_tf.export --export_dir=DIR [--dataset=mnist_5k] [--defense=rse] [--num_draws=50] ...
"""

from rse_tf import config, experiment

if __name__ == "__main__":
    config.launch(experiment.export, __doc__)

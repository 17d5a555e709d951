"""Certifies a defense that is trained already: L2 radii inside of which no attack succeeds.

python -m rse_tf.certify --defense=rse [--dataset=mnist_5k] [--n=10000] [--num_images=100] ...
"""

from rse_tf import experiment, flags

if __name__ == "__main__":
    flags.launch(experiment.certify, __doc__)

"""Several networks as one classifier: attacked as a whole, and served without rse_tf.

python examples/ensemble_and_serving.py
"""

import pathlib
import tempfile

import keras
import rse_tf
import tensorflow as tf
from keras import layers

keras.utils.set_random_seed(0)
digits = rse_tf.data.load("mnist_5k")
train, test = digits.train, digits.test[:100]


def member() -> keras.Model:
    """One of three networks, alike but for their initial weights."""
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, 5, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(train.images, train.labels, batch_size=64, epochs=2, verbose=0)
    return model


members = [member() for _ in range(3)]
# Its logits are the log of the members' mean probability, so that it is a classifier like others.
ensemble = rse_tf.AveragedEnsemble(members)
attack = rse_tf.attacks.BIM(ensemble, epsilon=0.1, steps=10)
result = attack(test.images, test.labels)
print(f"the attack succeeds on {result.success.mean():.1%}")
for number, model in enumerate(members, start=1):
    fooled = model(result.adversarial).numpy().argmax(-1) != test.labels
    print(f"member {number} is wrong on {fooled.mean():.1%} of its images")

folder = pathlib.Path(tempfile.mkdtemp()) / "served"
ensemble.export(folder)
served = tf.saved_model.load(str(folder)).signatures["serving_default"]  # TensorFlow alone does it
answer = served(images=tf.constant(test.images))
print(f"served: {(answer['class'].numpy() == test.labels).mean():.1%} correct on clean images")

"""Your own Keras model: attack it, make it robust, and measure again.

python examples/own_model.py
"""

import keras
import rse_tf
from keras import layers

keras.utils.set_random_seed(0)
digits = rse_tf.data.load("mnist_5k")
train, test = digits.train, digits.test[:100]


def build() -> keras.Model:
    """Any Functional or Sequential model that returns logits: no softmax at its end."""
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def fit(model: keras.Model, epochs: int) -> None:
    """Trains as usual; noise layers need nothing special."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(train.images, train.labels, batch_size=64, epochs=epochs, verbose=0)


def report(name: str, model: keras.Model, attacked: keras.Model) -> None:
    """Attacks a model, and scores it by its own prediction with fresh noise."""
    attack = rse_tf.attacks.PGD(attacked, epsilon=0.1, steps=20)
    adversarial = attack(test.images, test.labels).adversarial
    scorer = rse_tf.evaluation.Scorer(model, num_draws=20)
    clean = scorer.correct(test.images, test.labels).mean()
    robust = scorer.correct(adversarial, test.labels).mean()
    print(f"{name:<8} clean {clean:6.1%}   under PGD at 0.1 {robust:6.1%}")


plain = build()
fit(plain, epochs=2)
report("plain", plain, attacked=plain)

noisy = rse_tf.robustify(plain, init_noise=0.3, inner_noise=0.1)
fit(noisy, epochs=3)  # training with the noise is part of the method
# An honest attacker follows the mean of several draws, not the luck of one.
report("noisy", noisy, attacked=rse_tf.SelfEnsemble(noisy, num_draws=8))

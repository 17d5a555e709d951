"""Batches for training, repeatable from a seed."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rse_tf.data.dataset import Split

AUGMENTATIONS = ("none", "crop_flip")
# Liu et al. (2018): zero padding before the random crop.
PADDING = 4


class Batches:
    """The training images in a new order each epoch, cropped and flipped at random.

    What an epoch looks like follows from the seed and its number alone, so a run can be
    taken up again at any epoch.

    Args:
        split: the images.
        batch_size: images per batch; the remainder of an epoch is left out, unless there is
            less than one batch.
        augmentation: `"none"`, or `"crop_flip"`: four pixels of zeros around the image, a
            random crop of the old size, and a mirror image half of the time.
        seed: where all randomness follows from.

    Raises:
        ValueError: if `augmentation` is not one of the above.
    """

    def __init__(self, split: Split, batch_size: int, augmentation: str, seed: int) -> None:
        if augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"Batches: augmentation must be one of {AUGMENTATIONS}. "
                f"Received: augmentation={augmentation!r}"
            )
        self.batch_size = min(batch_size, len(split))
        self.per_epoch = len(split) // self.batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._number = len(split)
        with tf.device("/cpu:0"):
            self._images = tf.constant(split.images)
            self._labels = tf.constant(split.labels, tf.int32)

    def epoch(self, number: int) -> tf.data.Dataset:
        """Returns the batches of one epoch: `(images, labels)`."""
        rng = np.random.default_rng([self._seed, number])
        used = rng.permutation(self._number)[: self.per_epoch * self.batch_size]
        keys = rng.integers(0, 2**31, size=(len(used), 2), dtype=np.int64)
        dataset = tf.data.Dataset.from_tensor_slices((used, keys))
        if self._augmentation == "none":  # a whole batch at once: small images are done in no time
            dataset = dataset.batch(self.batch_size, drop_remainder=True)
            dataset = dataset.map(lambda indices, _: self._look_up(indices))
        else:
            dataset = dataset.map(self._cropped, num_parallel_calls=tf.data.AUTOTUNE)
            dataset = dataset.batch(self.batch_size, drop_remainder=True)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _look_up(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(self._images, indices), tf.gather(self._labels, indices)

    def _cropped(self, index: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = self._look_up(index)
        padded = tf.pad(image, [[PADDING, PADDING], [PADDING, PADDING], [0, 0]])
        cropped = tf.image.stateless_random_crop(padded, image.shape, seed=key)
        return tf.image.stateless_random_flip_left_right(cropped, seed=key + 1), label

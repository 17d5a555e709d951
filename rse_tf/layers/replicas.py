"""Random seeds that differ between the replicas of a `tf.distribute` strategy."""

from __future__ import annotations

import keras
import tensorflow as tf


def next_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Draws the next seed of a stream, another one on every replica.

    Replicas hold mirrored copies of a generator's state, so only their number tells them apart.

    Returns:
        int32 `[2]`, as XLA wants the seeds of stateless operations.
    """
    seed = tf.cast(generator.next(), tf.int32)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        seed = tf.random.fold_in(seed, replica.replica_id_in_sync_group)
    return seed

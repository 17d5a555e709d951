"""What every test starts from: two CPU devices and a fixed seed."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

# Before anything starts the TensorFlow runtime: enough for a strategy with two replicas.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    keras.utils.set_random_seed(0)

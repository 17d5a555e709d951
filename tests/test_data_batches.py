from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from digits import some_digits

from rse_tf.data import AUGMENTATIONS, Batches, Split

PADDING = 4
Epoch = list[tuple[np.ndarray, np.ndarray]]


def split_of(number: int) -> Split:
    images, labels = some_digits(number)
    return Split(images.astype(np.float32) / 255, labels)


def epoch(batches: Batches, number: int = 0) -> Epoch:
    return [(images.numpy(), labels.numpy()) for images, labels in batches.epoch(number)]


def identical(first: Epoch, second: Epoch) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b) for pair in zip(first, second) for a, b in zip(*pair)
    )


def key(image: np.ndarray) -> bytes:
    return image.tobytes()


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_an_epoch_follows_from_its_seed_and_number(augmentation: str) -> None:
    batches = Batches(split_of(60), 20, augmentation, seed=3)
    first = epoch(batches, 4)
    assert identical(first, epoch(batches, 4))
    # Whatever came before: a run taken up at epoch 4 sees the same batches.
    assert identical(first, epoch(Batches(split_of(60), 20, augmentation, seed=3), 4))
    assert not identical(first, epoch(batches, 5))
    assert not identical(first, epoch(Batches(split_of(60), 20, augmentation, seed=4), 4))


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_no_two_of_the_first_epochs_and_seeds_are_alike(augmentation: str) -> None:
    # Also not seed 1 epoch 0 and seed 0 epoch 1.
    seen = {
        epoch(Batches(split_of(40), 40, augmentation, seed=seed), number)[0][0].tobytes()
        for seed in range(3)
        for number in range(3)
    }
    assert len(seen) == 9


def test_every_image_comes_exactly_once_with_its_own_label() -> None:
    split = split_of(60)
    expected = Counter((key(image), int(y)) for image, y in zip(split.images, split.labels))
    batches = Batches(split, 20, "none", seed=0)
    assert (batches.batch_size, batches.per_epoch) == (20, 3)
    for number in range(2):
        found = epoch(batches, number)
        assert [images.shape for images, _ in found] == [(20, 28, 28, 1)] * 3
        assert Counter((key(x), int(y)) for xs, ys in found for x, y in zip(xs, ys)) == expected


def test_images_come_in_a_new_order_each_epoch() -> None:
    split = split_of(60)
    batches = Batches(split, 60, "none", seed=0)
    orders = []
    index = {key(image): i for i, image in enumerate(split.images)}
    for number in range(3):
        ((images, _),) = epoch(batches, number)
        orders.append([index[key(image)] for image in images])
    orders.insert(0, list(range(60)))
    fixed_points = [
        sum(a == b for a, b in zip(first, second)) for first, second in zip(orders, orders[1:])
    ]
    # The fixed points of a random permutation are Poisson with mean 1: ten or more have a
    # probability of 1e-7.
    assert max(fixed_points) < 10


def test_the_remainder_of_an_epoch_is_left_out_and_is_another_each_time() -> None:
    split = split_of(50)
    batches = Batches(split, 20, "none", seed=0)
    assert batches.per_epoch == 2
    left_out = []
    for number in range(2):
        found = epoch(batches, number)
        assert [len(labels) for _, labels in found] == [20, 20]
        used = {key(image) for images, _ in found for image in images}
        assert len(used) == 40
        left_out.append({key(image) for image in split.images} - used)
    assert left_out[0] != left_out[1]


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    batches = Batches(split_of(10), 128, "none", seed=0)
    assert (batches.batch_size, batches.per_epoch) == (10, 1)
    ((images, labels),) = epoch(batches)
    assert (images.shape, labels.shape) == ((10, 28, 28, 1), (10,))


def test_batches_are_float32_images_and_int32_labels() -> None:
    ((images, labels),) = epoch(Batches(split_of(10), 10, "crop_flip", seed=0))
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)


def crops(image: np.ndarray) -> dict[bytes, list[tuple[int, int, bool]]]:
    """All that `crop_flip` may make of an image: the crops of the padded image, mirrored or not.

    An image without texture at its border has several that look the same.
    """
    height, width, _ = image.shape
    padded = np.pad(image, [(PADDING, PADDING), (PADDING, PADDING), (0, 0)])
    found: dict[bytes, list[tuple[int, int, bool]]] = {}
    for top in range(2 * PADDING + 1):
        for left in range(2 * PADDING + 1):
            crop = padded[top : top + height, left : left + width]
            for flip in (False, True):
                seen = key(np.ascontiguousarray(crop[:, ::-1] if flip else crop))
                found.setdefault(seen, []).append((top, left, flip))
    return found


def textured(number: int) -> Split:
    """Digits on coloured noise, so that every crop is another."""
    images, labels = some_digits(number)
    noise = np.random.default_rng(0).integers(1, 255, images.shape[:3] + (3,), dtype=np.uint8)
    # Not square, so that height and width cannot be mixed up.
    images = np.maximum(images, noise)[:, :20, :24]
    return Split(images.astype(np.float32) / 255, np.arange(number) % 10)


def test_crop_flip_gives_a_crop_of_the_padded_image_or_its_mirror() -> None:
    split = textured(64)
    origin = {seen: i for i, image in enumerate(split.images) for seen in crops(image)}
    chosen = []
    found = epoch(Batches(split, 16, "crop_flip", seed=0))
    assert sorted(origin[key(x)] for xs, _ in found for x in xs) == list(range(64))
    for images, labels in found:
        for image, label in zip(images, labels):
            number = origin[key(image)]
            assert label == split.labels[number]
            (how,) = crops(split.images[number])[key(image)]
            chosen.append(how)
    # Of 81 places 64 draws are expected to hit 81 * (1 - (80/81)^64) = 44, a standard deviation
    # of about 3.
    assert len({(top, left) for top, left, _ in chosen}) > 29


def test_crops_are_uniform_and_half_of_the_images_are_mirrored() -> None:
    image = textured(1)
    number = 405
    split = Split(np.repeat(image.images, number, axis=0), np.zeros(number, np.int64))
    ((images, _),) = epoch(Batches(split, number, "crop_flip", seed=1))
    known = crops(image.images[0])
    chosen = [known[key(x)][0] for x in images]
    flips = sum(flip for _, _, flip in chosen)
    # Binomial: 5 standard deviations of sqrt(n) / 2.
    assert abs(flips - number / 2) <= 5 * np.sqrt(number) / 2
    for axis in (0, 1):
        counts = np.bincount([how[axis] for how in chosen], minlength=9)
        # 45 of each of the nine offsets; 5 standard deviations of sqrt(n p (1 - p)).
        assert len(counts) == 9
        assert np.abs(counts - 45).max() <= 5 * np.sqrt(number * 8 / 81)
    # Offset and mirror do not hang together, nor do the two offsets: correlations of
    # independent draws have a standard deviation of 1 / sqrt(n).
    correlations = np.corrcoef(np.array(chosen, float).T) - np.eye(3)
    assert np.abs(correlations).max() <= 5 / np.sqrt(number)


def test_an_image_is_cropped_anew_each_epoch() -> None:
    split = textured(20)
    batches = Batches(split, 20, "crop_flip", seed=0)
    views = []
    for number in range(2):
        ((images, _),) = epoch(batches, number)
        origin = {seen: i for i, image in enumerate(split.images) for seen in crops(image)}
        views.append({origin[key(image)]: key(image) for image in images})
    # The same view of an image twice has a probability of 1 / 162.
    assert sum(views[0][i] == views[1][i] for i in range(20)) <= 3


def test_real_digits_stay_real_digits() -> None:
    split = split_of(20)
    known = {seen: i for i, image in enumerate(split.images) for seen in crops(image)}
    ((images, labels),) = epoch(Batches(split, 20, "crop_flip", seed=0))
    np.testing.assert_array_equal([split.labels[known[key(x)]] for x in images], labels)


def test_an_unknown_augmentation_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="augmentation must be one of .* Received: .*'mixup'"):
        Batches(split_of(10), 10, "mixup", seed=0)

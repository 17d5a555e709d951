"""The streams of random numbers of this package, one constant each.

Random numbers follow from a stream's constant and from a seed, such as that of the run. So no
two uses share numbers, whatever the seeds are. Cached images and trained networks are found by
the numbers they were made with: a constant never changes.

An honest evaluation of a randomised defense needs three streams. The noise that an attack meets,
the noise that chooses between its images, and the noise that measures accuracies must have nothing
in common. Otherwise an image counts as adversarial because of the luck of one draw.
"""

from __future__ import annotations

# Training. The noise of an epoch follows from the run's seed and the epoch alone.
BAGGING = 0xBA66
GAUSS_NOISE = 0x6A55
# Evaluation.
ATTACK = 0xA77AC
SELECTION = 0x5E1EC7
SCORING = 0x5C0DE
# Single draws, beside the predictions of the scoring.
SINGLE_DRAWS = 0x51D5
CERTIFICATION = 0x4CE2
# Measurements.
STOPPING = 0x570B
REGULARITY = 0x4E55E
DIRECTIONS = 0xD12EC
# Models with one fixed draw.
FROZEN = 0xF705E

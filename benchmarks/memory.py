"""Peak memory of a process that does one thing: python -m benchmarks.memory attack --images 128."""

from __future__ import annotations

import argparse
import pathlib
import resource
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).parents[1]


def peak_megabytes(*arguments: str) -> float:
    """Runs this module in a process of its own and returns the peak of its memory.

    Raises:
        RuntimeError: if the process fails; with its error.
    """
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def own_peak() -> float:
    """Peak resident memory of this process, in MB."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a process inherits the peak of the one that started it.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def attack(images: int, steps: int) -> None:
    """C&W at a fixed c on random images."""
    from benchmarks.subjects import untrained
    from rse_tf.attacks import CarliniWagnerL2

    subject = untrained("mnist_cnn", images)
    CarliniWagnerL2(subject.model, const=1.0, steps=steps)(subject.images, subject.labels)


def ensemble(images: int, draws: int) -> None:
    """One prediction of a self-ensemble."""
    import tensorflow as tf

    from benchmarks.subjects import network, random_images
    from rse_tf import SelfEnsemble

    model = network("vgg16", init_noise=0.2, inner_noise=0.1)
    tf.function(SelfEnsemble(model, draws))(tf.constant(random_images("vgg16", images)))


def main() -> None:
    """Does what the command line says and prints the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["attack", "ensemble"])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--draws", type=int, default=50)
    given = parser.parse_args()
    if given.what == "attack":
        attack(given.images, given.steps)
    else:
        ensemble(given.images, given.draws)
    print(own_peak())


if __name__ == "__main__":
    main()

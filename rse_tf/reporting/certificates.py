"""Certificates as a table for the terminal, as JSON, as TSV and as a curve."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tabulate
from scipy import stats

from rse_tf.evaluation import Certificate, CertificationSettings, certified_accuracy, plain
from rse_tf.evaluation.certification import ABSTAIN, RADII
from rse_tf.evaluation.confidence import clopper_pearson, lower_bound
from rse_tf.reporting.axes import make_axes, tidy
from rse_tf.reporting.drawing import PERCENT, add_legend, legend_handles, styles_of
from rse_tf.reporting.heading import Heading, add_heading, trial_reasons, trial_warning
from rse_tf.reporting.names import counted, dataset_name, display_name
from rse_tf.reporting.saving import save_figure
from rse_tf.utils.files import atomic_write_text, reading

SCHEMA = 1
# Flags that a network follows from, as far as its data and its training go.
OF_NETWORK = ("dataset", "model", "activation", "init_noise", "inner_noise", "epochs", "seed")
_KINDS = {"votes": False, "mean_probability": True}


class CertificateFile(NamedTuple):
    """What `write_certificates` wrote.

    Attributes:
        defense: whose certificates they are.
        network: checksum of its model; empty in files that were written before it was kept.
        flags: of the run.
        n: votes that bound a probability.
        certificates: one for each image, `index` its number in the test set.
    """

    defense: str
    network: str
    flags: dict[str, Any]
    n: int
    certificates: list[Certificate]

    def is_of(self, network: str, flags: Mapping[str, Any]) -> bool:
        """Whether it is of this network: by the checksum, or without one by the flags."""
        if self.network and network:
            return self.network == network
        return all(self.flags.get(name) == flags.get(name) for name in OF_NETWORK)


def write_certificates(
    folder: pathlib.Path,
    certificates: Sequence[Certificate],
    settings: CertificationSettings,
    *,
    defense: str,
    network: str,
    flags: Mapping[str, Any],
    versions: Mapping[str, str],
    formats: Sequence[str] = ("png",),
) -> list[pathlib.Path]:
    """Writes certificates into a folder and returns the paths.

    Args:
        folder: receives `certificate.json`, `certificate.tsv` and `certified_accuracy.png`.
        certificates: at least one.
        settings: that they were made with, their `stddev` filled in.
        defense: whose they are.
        network: checksum of its model.
        flags: of the run, for `certificate.json`.
        versions: of the software, likewise.
        formats: of the picture, each one of `FIGURE_FORMATS`.
    """
    names = ("certificate.json", "certificate.tsv", "certified_accuracy.png")
    paths = [folder / name for name in names]
    content = {
        "schema": SCHEMA,
        "defense": defense,
        "network": network,
        "stddev": settings.stddev,
        **{name: getattr(settings, name) for name in ("n0", "n", "alpha", "skip")},
        "certified_accuracy": [{"radius": r} | _shares(certificates, r) for r in RADII],
        "abstentions": _abstentions(certificates),
        "flags": plain(dict(flags), "flags"),
        "versions": dict(versions),
        "certificates": [dataclasses.asdict(one) for one in certificates],
    }
    atomic_write_text(paths[0], json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_tsv(certificates, paths[1])
    place = (dataset_name(str(flags.get("dataset", ""))), str(flags.get("model", "")))
    title = ", ".join(filter(None, (*place, display_name(defense))))
    epochs, images = int(flags.get("epochs") or 0), len(certificates)
    counts = [counted(images, "image"), *([counted(epochs, "epoch")] if epochs else [])]
    counts.append(f"Gaussian noise of {settings.stddev:g}")
    warning = trial_warning([trial_reasons(epochs, images)])
    heading = Heading(f"{title}: certified accuracy", ", ".join(counts), warning)
    return paths[:2] + plot_certified_accuracy(certificates, paths[2], heading, formats)


def load_certificates(path: str | os.PathLike[str]) -> CertificateFile | None:
    """Reads what `write_certificates` wrote; `None` if there is no such file.

    Raises:
        FileError: if the file is damaged.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return None
    with reading(path, "delete it, or certify anew"):
        content = json.loads(path.read_text(encoding="utf-8"))
        noise = {"stddev": content["stddev"], "alpha": content["alpha"]}
        found = [Certificate(**{**one, **noise}) for one in content["certificates"]]
        facts = content["defense"], content.get("network", ""), content["flags"], content["n"]
        return CertificateFile(*facts, found)


def read_certificates(
    path: str | os.PathLike[str],
    defense: str,
    network: str,
    flags: Mapping[str, Any],
    numbers: Sequence[int] | np.ndarray,
) -> list[Certificate] | None:
    """Reads the certificates of a defense and some images; `None` if there are none of these.

    Args:
        path: of `certificate.json`.
        defense: whose certificates they must be.
        network: checksum of its model, which must be the same.
        flags: of the run; those of the network count where the file has no checksum.
        numbers: which images are wanted, by their numbers in the test set. Certificates come with
            their places among these as `index`.

    Raises:
        FileError: if the file is damaged.
    """
    file = load_certificates(path)
    if file is None or file.defense != defense or not file.is_of(network, plain(flags, "flags")):
        return None
    places = {int(number): place for place, number in enumerate(numbers)}
    found = [one for one in file.certificates if one.index in places]
    return [dataclasses.replace(one, index=places[one.index]) for one in found] or None


def write_tsv(certificates: Sequence[Certificate], path: str | os.PathLike[str]) -> None:
    """Writes the certificates by votes as the program of Cohen et al. does, for theirs to read.

    The columns are `idx`, `label`, `predict` (-1: an abstention), `radius`, `correct` (0 or 1) and
    `time` (hours:minutes:seconds), with tabs in between.
    """
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
    for one in certificates:
        took = datetime.timedelta(seconds=one.seconds)
        start = f"{one.index}\t{one.label}\t{one.predicted}\t{one.radius:.3}"
        lines.append(f"{start}\t{int(one.correct)}\t{took}")
    atomic_write_text(path, "\n".join(lines) + "\n")


def format_certificates(
    certificates: Sequence[Certificate], settings: CertificationSettings
) -> str:
    """Returns certified accuracies at a few radii as plain text, with what they mean.

    Args:
        certificates: at least one.
        settings: that they were made with, their `stddev` filled in.
    """
    count, lines = len(certificates), []
    for radius in RADII:
        line = [f"radius {radius:g}"]
        for share in _shares(certificates, radius).values():
            low, high = clopper_pearson(round(share * count), count)
            line += [f"{100 * share:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]
        lines.append(line)
    votes, mean = (str(number) for number in _abstentions(certificates).values())
    lines.append(["abstentions", votes, "", mean, ""])
    table = tabulate.tabulate(
        lines,
        ["certified accuracy (%)", "votes", "95 % interval", "mean probability", "95 % interval"],
        disable_numparse=True,
        colalign=["left", *["right"] * 4],
    )
    stddev, n, alpha = float(settings.stddev or 0.0), settings.n, settings.alpha
    reach = stddev * stats.norm.ppf(lower_bound(n, n, alpha))
    notes = [
        "certified: no change of the image of a smaller L2 norm changes its class, under Gaussian "
        f"noise of standard deviation {stddev:g} on the pixels",
        f"votes: class of most noisy predictions (Cohen et al., 2019), by {settings.n0} + {n} on "
        f"each of {count} images; they reach a radius of {reach:.3f}, if all agree",
        "mean probability: class of the self-ensemble over all draws (Salman et al., 2019); where "
        "its probability is p, m draws change it with probability exp(-2 m (p - 1/2)^2) at most",
        f"error: a certificate is wrong with probability {alpha:g} at most, and one of all {count} "
        f"with probability {min(count * alpha, 1):g}; the intervals are of the sample of images",
        "deploy: with exact noise on the pixels (--noise_sampler=exact), for no certificate holds "
        "for the pool of the fast sampler",
    ]
    return "\n".join([table, "", *notes])


def plot_certified_accuracy(
    certificates: Sequence[Certificate],
    path: str | os.PathLike[str],
    heading: Heading,
    formats: Sequence[str] = ("png",),
) -> list[pathlib.Path]:
    """Draws the share of images that are certified to stay correct, by L2 radius.

    Args:
        certificates: at least one.
        path: the file; each format has its own ending.
        heading: what the picture says of itself.
        formats: of `FIGURE_FORMATS`.
    """
    curves = {
        "votes": [one.radius for one in certificates if one.correct],
        "mean probability": [one.mean_radius for one in certificates if one.mean_correct],
    }
    styles = styles_of(curves)
    figure, (axes,) = make_axes(1, 1)
    for style in styles.values():
        del style["marker"], style["markersize"]
    for label, radii in curves.items():
        axes.step(*_steps(radii, len(certificates)), where="pre", **styles[label])
    axes.set_xlabel("L2 radius, in pixel units")
    axes.set_ylabel("certified accuracy (%)")
    axes.set_ylim(*PERCENT)
    tidy(axes, "")
    add_legend(figure, legend_handles(styles, (), ()))
    add_heading(figure, heading)
    return save_figure(figure, path, formats)


def _steps(radii: Sequence[float], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The curve of radii of correct images, out of `count`: each height holds up to its x."""
    x = np.concatenate([[0.0], np.sort(radii), [max(radii, default=0.0)]])
    left = np.arange(len(radii), -1, -1)  # all of them up to the smallest radius, then one less
    return x, 100 * np.concatenate([left[:1], left]) / count


def _shares(certificates: Sequence[Certificate], radius: float) -> dict[str, float]:
    return {
        kind: certified_accuracy(certificates, radius, by_mean=by_mean)
        for kind, by_mean in _KINDS.items()
    }


def _abstentions(certificates: Sequence[Certificate]) -> dict[str, int]:
    return {
        "votes": sum(one.predicted == ABSTAIN for one in certificates),
        "mean_probability": sum(one.mean_predicted == ABSTAIN for one in certificates),
    }

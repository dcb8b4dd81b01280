"""Segments of a head (a magnetic resonance image) and of a photograph, beside two other methods.

    python examples/segmentation.py [--output PICTURE]

Prints the seconds of each method and the share of each segment.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_image

from fastgmm import warmup
from fastgmm.image import segment

TISSUES = ("background", "fluid, bone", "muscle, skin", "grey matter", "white matter, fat")
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#E69F00", "#FFFFFF")  # for colour-blind eyes, too
N_COLOURS = 6


def k_means(image, n, channel_axis=None):
    """Label pixels by scikit-learn's k-means, in order of mean intensity."""
    pixels = image.reshape(-1, 1 if channel_axis is None else image.shape[-1]).astype(float)
    found = KMeans(n, n_init=1, random_state=0).fit(pixels)
    rank = found.cluster_centers_.mean(axis=1).argsort().argsort()
    return rank[found.labels_].reshape(image.shape[: None if channel_axis is None else -1])


def multi_otsu(image, n):
    """Label pixels by the n - 1 thresholds with the largest variance between classes.

    Exact, by a dynamic programme over the distinct values. References: N. Otsu, IEEE Trans. SMC
    9(1), 1979; P.-S. Liao, T.-S. Chen and P.-C. Chung, J. Inf. Sci. Eng. 17(5), 2001.
    """
    values, counts = np.unique(image, return_counts=True)
    mass = np.concatenate([[0.0], counts.cumsum()])
    first = np.concatenate([[0.0], (counts * values.astype(float)).cumsum()])
    # what a class of the values i, ..., j-1 adds
    size = mass - mass[:, None]
    gain = np.where(size > 0, (first - first[:, None]) ** 2 / np.where(size > 0, size, 1), -np.inf)
    best, cuts = gain[0], []
    for _ in range(n - 1):
        total = best[:, None] + gain
        cuts.append(total.argmax(axis=0))
        best = total.max(axis=0)
    thresholds, end = [], len(values)
    for cut in reversed(cuts):
        end = cut[end]
        thresholds.insert(0, values[end])
    return np.digitize(image, thresholds)


def timed(name, function, *args, **options):
    """Call, print seconds and the shares of the segments, and give the labels."""
    start = time.perf_counter()
    result = function(*args, **options)
    seconds = time.perf_counter() - start
    labels = getattr(result, "labels", result)
    shares = " ".join(f"{share:5.1%}" for share in np.bincount(labels.ravel()) / labels.size)
    print(f"{name:24} {1e3 * seconds:7.0f} ms   {shares}")
    return result


def main():
    """Segment both images and draw the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    options = parser.parse_args()
    warmup()

    with get_sample_data("s1045.ima.gz") as file:
        head = np.frombuffer(file.read(), np.uint16).reshape(256, 256)
    heads = {
        "Mixture (fastgmm)": timed("head, mixture", segment, head, 5, n_init=10),
        "K-means": timed("head, k-means", k_means, head, 5),
        "Multi-Otsu thresholds": timed("head, multi-Otsu", multi_otsu, head, 5),
    }
    photo = load_sample_image("china.jpg")
    result = timed(
        "photograph, mixture", segment, photo, N_COLOURS, channel_axis=-1, full_output=True
    )
    photos = {
        f"Mixture (fastgmm), {N_COLOURS} segments": result.labels,
        f"K-means, {N_COLOURS} segments": timed(
            "photograph, k-means", k_means, photo, N_COLOURS, channel_axis=-1
        ),
    }
    doubt = 1.0 - result.probabilities(photo).max(axis=-1)
    draw(head, heads, photo, photos, doubt, options.output)


def draw(head, heads, photo, photos, doubt, output):
    """Draw the images and their segments."""
    figure = plt.figure(figsize=(13, 6.0), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    axes = upper.subplots(1, 4)
    axes[0].imshow(head, cmap="gray", vmax=55_000)
    axes[0].set_title("Magnetic resonance image")
    for ax, (title, labels) in zip(axes[1:], heads.items(), strict=True):
        ax.imshow(labels, cmap=ListedColormap(COLOURS), vmin=0, vmax=4, interpolation="nearest")
        ax.set_title(title)
    handles = [
        Patch(facecolor=c, edgecolor="grey", label=t) for c, t in zip(COLOURS, TISSUES, strict=True)
    ]
    upper.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    rest = lower.subplots(1, 4)
    rest[0].imshow(photo)
    rest[0].set_title("Photograph")
    for ax, (title, labels) in zip(rest[1:], photos.items(), strict=False):
        means = np.stack([photo[labels == i].mean(axis=0) for i in range(N_COLOURS)])
        ax.imshow(means.round().astype(np.uint8)[labels])  # each segment in its mean colour
        ax.set_title(title)
    shown = rest[3].imshow(doubt, cmap="gray", vmin=0, vmax=0.5)
    rest[3].set_title("Doubt of the mixture")
    bar = lower.colorbar(shown, ax=rest, location="right", shrink=0.85, aspect=14, pad=0.01)
    bar.set_label("1 − largest probability")
    for ax in (*axes, *rest):
        ax.set_axis_off()
    figure.savefig(output, dpi=85)
    if Path(output).suffix == ".png":  # 256 colours are enough, at a third of the size
        with Image.open(output) as picture:
            picture.convert("RGB").quantize(256).save(output, optimize=True)
    print(f"picture: {output}")


if __name__ == "__main__":
    main()

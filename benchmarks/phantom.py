"""A head made of four tissues, whose segmentation is known."""

from __future__ import annotations

import numpy as np

TISSUES = ("background", "fluid", "grey matter", "white matter")
MEANS = np.array([60.0, 320.0, 700.0, 1050.0])
SDS = np.array([15.0, 90.0, 80.0, 60.0])  # tissues differ in spread, as they do in a head


def make_phantom(size, seed=0):
    """Give a noisy volume (size, size, size) of uint16, and the tissue of each voxel.

    A folded ball of white matter in a rind of grey matter in fluid; normal noise, rounded.
    """
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 3, indexing="ij")
    radius = np.sqrt((x / 0.8) ** 2 + y**2 + (z / 0.9) ** 2)
    folds = np.sin(9 * x) * np.sin(9 * y) * np.sin(9 * z)
    truth = np.zeros(radius.shape, np.uint8)
    for tissue, edge in enumerate((0.92, 0.82 + 0.05 * folds, 0.6 + 0.12 * folds), start=1):
        truth[radius < edge] = tissue
    volume = np.random.default_rng(seed).standard_normal(truth.shape, dtype=np.float32)
    volume *= SDS.astype(np.float32)[truth]
    volume += MEANS.astype(np.float32)[truth]
    return np.rint(volume, out=volume).clip(0).astype(np.uint16), truth


def dice(labels, truth):
    """Give 2 |A ∩ B| / (|A| + |B|) of each class, the overlap of labels and truth."""
    classes = range(len(TISSUES))
    both = [np.count_nonzero((labels == c) & (truth == c)) for c in classes]
    sizes = [np.count_nonzero(labels == c) + np.count_nonzero(truth == c) for c in classes]
    return 2 * np.array(both) / np.array(sizes)

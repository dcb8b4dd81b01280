"""Segmentation: seconds and memory of volumes and pictures, and how right the segments are.

    python -m benchmarks.segment [--rounds 5] [--large]

Seconds are medians in a warmed-up process; memory is the peak above that before the call, labels
included, in a fresh one. ``--large`` adds a volume of 512³.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import interleave, seconds, watch_memory
from benchmarks.phantom import TISSUES, dice, make_phantom
from fastgmm.image import segment

_CHILD = """
import json, sys
import numpy as np
from fastgmm.image import segment
image, options = np.load(sys.argv[1]), json.loads(sys.argv[2])
segment(image[:16], 4, **options)
print("ready", flush=True)
sys.stdin.readline()
labels = segment(image, 4, **options)
print(json.dumps({"labels": labels.nbytes, "image": image.nbytes}), flush=True)
sys.stdin.readline()
"""


def volume(size, dtype):
    """Give the phantom of 128³, repeated to a volume of this size."""
    phantom = make_phantom(128)[0]
    if np.dtype(dtype).itemsize == 1:
        phantom = phantom >> 3
    return np.tile(phantom.astype(dtype), (size // 128,) * 3)


def picture(rows):
    """Give a picture of three channels, 8 bits each, whose regions are those of the phantom."""
    grey = np.tile(make_phantom(256)[0][128] >> 3, (rows // 256,) * 2)
    noise = np.random.default_rng(0).normal(0, 8, (*grey.shape, 3))
    return (grey[..., None] * [0.5, 0.8, 1.0] + noise).clip(0, 255).astype(np.uint8)


def memory(image, options):
    """Give the peak memory of a segmentation above its image, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        return watch_memory(_CHILD, path, json.dumps(options))["megabytes"]


CASES = {
    "grey, 256³, uint16": (partial(volume, 256, np.uint16), {}),
    "grey, 256³, float32": (partial(volume, 256, np.float32), {}),
    "RGB, 4096², uint8": (partial(picture, 4096), {"channel_axis": -1}),
}
LARGE = {"grey, 512³, uint16": (partial(volume, 512, np.uint16), {})}
CASES |= LARGE


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()

    print("image                 image, MB  seconds  peak above, MB  all in all ÷ image")
    for name, (make, extra) in CASES.items():
        if name in LARGE and not options.large:
            continue
        image = make()
        segment(image, 4, **extra)  # compiles
        call = partial(seconds, partial(segment, image, 4, **extra))
        spent = median(call() for _ in range(options.rounds))
        megabytes = memory(image, extra)
        size = image.nbytes / 1e6
        print(f"{name:21} {size:9.1f} {spent:8.3f} {megabytes:15.1f} {1 + megabytes / size:19.2f}")

    from examples.segmentation import k_means, multi_otsu  # needs matplotlib, unlike the rest

    phantom, truth = make_phantom(96)
    methods = {"mixture": segment, "k-means": k_means, "multi-Otsu": multi_otsu}
    for method in methods.values():
        method(phantom[:32], 4)
    found = {name: method(phantom, 4) for name, method in methods.items()}
    calls = {name: partial(seconds, method, phantom, 4) for name, method in methods.items()}
    spent = interleave(calls, options.rounds)
    print(f"\nDice on the phantom of {phantom.shape[0]}³ voxels, four tissues")
    print("method      " + "".join(f"{tissue:>14}" for tissue in TISSUES) + "       seconds")
    for name, labels in found.items():
        cells = "".join(f"{value:14.4f}" for value in dice(labels, truth))
        print(f"{name:12}{cells}{median(spent[name]):14.3f}")


if __name__ == "__main__":
    main()

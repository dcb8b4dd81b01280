"""``fastgmm segment``: cut a picture or a volume into segments."""

from __future__ import annotations

import argparse
import time
from typing import Any

from fastgmm._cli.common import add_parameters, add_quiet, check_writable, given_parameters, say
from fastgmm._cli.pictures import check_labels, read_image, read_mask, write_labels
from fastgmm._cli.report import describe
from fastgmm.image import segment


def add_segment(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("segment", help="cut a picture or a volume into segments")
    parser.add_argument(
        "image", metavar="IMAGE", help="a .npy file, or a picture (.png, .jpg, .tif, ...)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="LABELS",
        required=True,
        help="where the labels go: .npy, or .png, whose colours stand for up to 256 labels",
    )
    parser.add_argument("--mask", help="an image of the same size, not 0 where to segment")
    parser.add_argument(
        "--channel-axis",
        type=int,
        metavar="INT",
        help="axis of the colours of a .npy file (default: grey; pictures tell it themselves)",
    )
    parser.add_argument("--model", help="save the fitted model, too (.npz)")
    add_quiet(parser)
    add_parameters(parser, required=("n_components",))
    parser.set_defaults(run=_segment)


def _segment(options: argparse.Namespace) -> None:
    for path in (options.output, options.model):
        if path is not None:
            check_writable(path, options.image, options.mask)
    image, channel_axis = read_image(options.image)
    if options.channel_axis is not None:
        channel_axis = options.channel_axis
    mask = None if options.mask is None else read_mask(options.mask)
    params = given_parameters(options)
    first = 0 if mask is None else 1
    last = first + params["n_components"] - 1
    check_labels(options.output, image.ndim - (channel_axis is not None), last)
    say(options, f"{options.image}: {' x '.join(map(str, image.shape))}, {image.dtype}")
    start = time.perf_counter()
    result = segment(
        image,
        params.pop("n_components"),
        channel_axis=channel_axis,
        mask=mask,
        full_output=True,
        **params,
    )
    seconds = time.perf_counter() - start
    say(options, f"segmented in {seconds:.2f} s, fitted on {result.n_fitted} pixels")
    write_labels(options.output, result.labels)
    outside = "" if mask is None else ", 0 outside the mask"
    say(options, f"labels {first} to {last}{outside}, saved as {options.output}")
    if options.model:
        result.model.save(options.model)
        say(options, f"saved as {options.model}")
    n_features = result.model.n_features_in_
    names = ["intensity"] if n_features == 1 else [f"channel {j}" for j in range(n_features)]
    print(describe(result.model, names))

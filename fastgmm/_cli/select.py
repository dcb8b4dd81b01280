"""``fastgmm select``: choose the number of components and the covariance type."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from typing import Any

from fastgmm import select_model
from fastgmm._cli.common import (
    PARAMETERS,
    add_data,
    add_parameters,
    add_quiet,
    check_writable,
    given_parameters,
    say,
)
from fastgmm._cli.report import criterion_table, describe
from fastgmm._cli.tables import read_table

TYPES = PARAMETERS["covariance_type"][2] or ()


def add_select(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "select", help="choose the number of components and the covariance type"
    )
    add_data(parser)
    parser.add_argument(
        "-k",
        "--components",
        dest="sizes",
        type=_sizes,
        default=range(1, 11),
        metavar="INTS",
        help="numbers of components, as in 1-10 or 2,3,5 (default: 1-10)",
    )
    parser.add_argument(
        "--types",
        type=_types,
        default=list(TYPES),
        metavar="TYPES",
        help=f"covariance types, separated by commas (default: {','.join(TYPES)})",
    )
    parser.add_argument(
        "--criterion",
        choices=("bic", "aic", "icl"),
        default="bic",
        help="what is minimised (default: bic)",
    )
    parser.add_argument("-o", "--output", metavar="MODEL", help="save the chosen model (.npz)")
    add_quiet(parser)
    add_parameters(parser, left_out=("n_components", "covariance_type"))
    parser.set_defaults(run=_select)


def _sizes(text: str) -> list[int]:
    """Read numbers and ranges, both ends included."""
    sizes: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise argparse.ArgumentTypeError(f"{part!r} is no number, and no range such as 1-10")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise argparse.ArgumentTypeError(f"the range {part!r} is empty")
        sizes.extend(range(first, last + 1))
    return sorted(set(sizes))


def _types(text: str) -> list[str]:
    types = [part.strip() for part in text.split(",")]
    for name in types:
        if name not in TYPES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(TYPES)}")
    return types


def _select(options: argparse.Namespace) -> None:
    if options.output is not None:
        check_writable(options.output, options.data)
    X, names = read_table(options.data, options.columns)
    say(options, f"{options.data}: {X.shape[0]} rows, {X.shape[1]} columns")
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # progress is printed
        selection = select_model(
            X,
            options.sizes,
            options.types,
            options.criterion,
            verbose=0 if options.quiet else 1,
            **given_parameters(options),
        )
    seconds = time.perf_counter() - start
    say(options, f"{len(selection.table)} candidates in {seconds:.2f} s")
    if options.output:  # before anything is printed: nobody may be there to read it
        selection.best.save(options.output)
        say(options, f"saved as {options.output}")
    name = options.criterion.upper()
    print(f"{name} by number of components and covariance type; the smallest (*) is chosen.\n")
    print(criterion_table(selection))
    print("\n" + describe(selection.best, names))

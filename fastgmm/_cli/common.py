"""What the commands share: progress to standard error, early checks, options of the estimator."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from fastgmm import GaussianMixture

# Parameters of the estimator as options: flags, type, choices, help.
PARAMETERS: dict[str, tuple[tuple[str, ...], type, tuple[str, ...] | None, str]] = {
    "n_components": (("-k", "--components"), int, None, "number of components"),
    "covariance_type": (
        ("--covariance-type",),
        str,
        ("full", "tied", "diag", "spherical"),
        "shape of the components (default: full)",
    ),
    "init_params": (
        ("--init",),
        str,
        ("kmeans", "k-means++", "random", "random_from_data"),
        "where to start (default: kmeans)",
    ),
    "n_init": (("--n-init",), int, None, "starts, the best of which is kept (default: 1)"),
    "tol": (("--tol",), float, None, "smallest gain a row worth going on for (default: 0.001)"),
    "max_iter": (("--max-iter",), int, None, "stop after so many iterations (default: 100)"),
    "reg_covar": (("--reg-covar",), float, None, "added to each variance (default: 1e-6)"),
    "prior": (
        ("--prior",),
        str,
        ("conjugate", "covariance"),
        "a prior that keeps components from collapsing (default: none, maximum likelihood)",
    ),
    "weight_concentration_prior_type": (
        ("--weight-concentration-prior-type",),
        str,
        ("dirichlet_process", "dirichlet_distribution"),
        "prior of the weights (default: dirichlet_process)",
    ),
    "weight_concentration_prior": (
        ("--weight-concentration-prior",),
        float,
        None,
        "the smaller, the fewer components keep weight (default: 1 / components)",
    ),
    "mean_precision_prior": (
        ("--mean-precision-prior",),
        float,
        None,
        "rows that the prior of a mean counts for (default: 1)",
    ),
    "degrees_of_freedom_prior": (
        ("--degrees-of-freedom-prior",),
        float,
        None,
        "rows that the prior of a covariance counts for (default: number of columns)",
    ),
    "random_state": (("--seed",), int, None, "seed of the random numbers (default: 0)"),
    "n_threads": (("--threads",), int, None, "threads (default: all cores)"),
}

DATA_HELP = "a .npy (memory-mapped), .npz, .csv or .parquet file, or a folder of .parquet files"


def add_parameters(
    parser: argparse.ArgumentParser,
    *estimators: type[Any],
    required: tuple[str, ...] = (),
    left_out: tuple[str, ...] = (),
) -> None:
    """Add parameters of estimators as options, of `GaussianMixture` if none are named.

    Those that are not given on the command line are missing from the parsed options too, so that
    the estimator's own defaults hold; see `given_parameters`.
    """
    known = {name for each in estimators or (GaussianMixture,) for name in each().get_params()}
    for name, (flags, kind, choices, text) in PARAMETERS.items():
        if name in left_out or name not in known:
            continue
        parser.add_argument(
            *flags,
            dest=name,
            type=kind,
            choices=choices,
            help=text,
            metavar=None if choices else kind.__name__.upper(),
            required=name in required,
            default=0 if name == "random_state" else argparse.SUPPRESS,
        )


def given_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Return the estimator's parameters that were given."""
    return {key: value for key, value in vars(options).items() if key in PARAMETERS}


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add the option that silences progress."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the table of rows a command reads, and which of its columns."""
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--columns", help="names or numbers from 0, as in a,b or 0,3 (default: all)"
    )


def say(options: argparse.Namespace, text: str) -> None:
    """Report progress, unless it is not wanted."""
    if not options.quiet:
        print(text, file=sys.stderr)


def check_writable(path: str) -> None:
    """Find out before the work, not after it, that the result has nowhere to go."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK) or Path(path).is_dir():
        raise ValueError(f"{path}: cannot be written")

"""Clusters with a shape, and how sure each point is of its own: 150 iris flowers.

A mixture of three components is fitted to four lengths of each flower, without their species. The
pictures show two of the lengths each; flowers whose species is a close call are hollow.

    python examples/clustering.py [--output clustering.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_iris

from fastgmm import GaussianMixture, plot

PAIRS = ((2, 3), (2, 0))


def agreement(labels, species):
    """Return how many flowers are in the component in which most of their species are."""
    return sum(np.bincount(labels[species == kind]).max() for kind in np.unique(species))


def main():
    """Fit, and draw into the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    output = parser.parse_args().output

    iris = load_iris()
    X = iris.data
    model = GaussianMixture(3, tol=1e-5, max_iter=1000, n_init=5, random_state=0).fit(X)
    right = agreement(model.predict(X), iris.target)

    figure = Figure(figsize=(11, 5), layout="constrained")
    for ax, pair in zip(figure.subplots(1, 2), PAIRS, strict=True):
        plot.clusters(model, X, ax=ax, features=pair, legend=pair == PAIRS[0])
        ax.set(xlabel=iris.feature_names[pair[0]], ylabel=iris.feature_names[pair[1]])
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{len(X)} irises by four lengths: {right} in the component of their species")
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main()

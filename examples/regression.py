"""Regression by conditioning: one joint density answers questions in every direction.

A mixture is fitted to the eruptions of Old Faithful, durations and waiting times together. How
long is the wait after an eruption of given length? And how long was the eruption before a given
wait? The second answer has two humps, between which the mean lies: the mixture shows them, a
regression line would not.

    python examples/regression.py [--output regression.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastgmm import GaussianMixture
from fastgmm.data import load_faithful

NAMES = ("duration of the eruption (min)", "waiting time to the next one (min)")
TITLES = ("How long is the wait?", "How long was the eruption?")
LIMITS = ((1.2, 5.6), (38.0, 100.0))
BLUE, ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito


def draw(ax, model, X, given):
    """Draw the density of the other feature given this one, its mean and its spread."""
    other = 1 - given
    x, y = np.linspace(*LIMITS[given], 301), np.linspace(*LIMITS[other], 241)
    mean, std = model.predict_conditional(x[:, None], [given], return_std=True)
    mean, std = mean[:, 0], std[:, 0]

    grid = np.empty((len(y), len(x), 2))
    grid[..., given], grid[..., other] = x, y[:, None]
    joint = model.score_samples(grid.reshape(-1, 2)).reshape(len(y), len(x))
    density = np.exp(joint - model.marginal([given]).score_samples(x[:, None]))

    shade = ax.pcolormesh(x, y, density, cmap="Blues", shading="gouraud", rasterized=True)
    ax.figure.colorbar(shade, ax=ax, label="conditional density (1/min)")
    ax.plot(*X[:, [given, other]].T, "o", color="0.2", ms=2.5, alpha=0.6, label="eruptions")
    ax.plot(x, mean, color=ORANGE, lw=2, label="conditional mean")
    for sign in (-1, 1):
        label = "± 1 standard deviation" if sign > 0 else None
        ax.plot(x, mean + sign * std, "--", color=ORANGE, lw=1.2, label=label)
    ax.set(xlabel=NAMES[given], ylabel=NAMES[other], title=TITLES[given])
    ax.set(xlim=LIMITS[given], ylim=LIMITS[other])


def main():
    """Fit, and draw into the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    output = parser.parse_args().output

    X = load_faithful()
    model = GaussianMixture(2, tol=1e-6, max_iter=1000, random_state=0).fit(X)

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for given, ax in enumerate(panels):
        draw(ax, model, X, given)
    panels[0].legend(loc="lower right", frameon=False)
    figure.suptitle(f"Old Faithful: {len(X)} eruptions, one mixture of 2 components")
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main()

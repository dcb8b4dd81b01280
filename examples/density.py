"""A density of any shape: mixtures of 1 to 6 components on the grey values of a photograph.

The last picture lays values drawn from the mixture of six over the histogram of the data.

    python examples/density.py [--output density.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

from fastgmm import GaussianMixture, plot

N_PIXELS = 20_000
BINS = np.linspace(0, 256, 65)


def grey_values():
    """Return the brightness, 0 to 255, of pixels chosen at random: (N_PIXELS, 1)."""
    brightness = load_sample_image("china.jpg").mean(axis=2).ravel()
    return np.random.default_rng(0).choice(brightness, (N_PIXELS, 1), replace=False)


def main():
    """Fit, and draw into the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    output = parser.parse_args().output

    X = grey_values()
    figure = Figure(figsize=(11, 9), layout="constrained")
    panels = figure.subplot_mosaic("112233;445566;ssssss", height_ratios=(1, 1, 1.2))
    for k in range(1, 7):
        model = GaussianMixture(k, tol=1e-5, max_iter=2000, random_state=0).fit(X)
        ax = plot.density(model, X, ax=panels[str(k)], bins=BINS, legend=k == 2)
        aic, bic = model.aic(X), model.bic(X)
        ax.set_title(f"K={k}: AIC {aic:,.0f}, BIC {bic:,.0f}", fontsize="medium")

    ax = panels["s"]
    ax.hist(X[:, 0], BINS, density=True, color="0.85", label=f"data: {N_PIXELS:,} pixels")
    draws, _ = model.sample(N_PIXELS, random_state=1)
    style = {"histtype": "step", "color": "#D55E00", "linewidth": 1.5}
    bins = np.arange(BINS[0] - 40, BINS[-1] + 41, 4)
    ax.hist(draws[:, 0], bins, density=True, label=f"{N_PIXELS:,} draws from K=6", **style)
    ax.set_title("Values drawn from the mixture of six, over the data", fontsize="medium")
    ax.set_ylabel("density")
    ax.legend(frameon=False)

    for name, ax in panels.items():
        ax.set(xlim=(-40, 296), xlabel="grey value (0 black, 255 white)" if name in "456s" else "")
        ax.spines[["top", "right"]].set_visible(False)
    for name in "123456":
        panels[name].set(ylim=(0, 0.0135), ylabel="density" if name in "14" else "")
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main()

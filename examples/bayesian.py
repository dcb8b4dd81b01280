"""How many clusters?  Ask for too many and let those that the data do not need die off.

A Bayesian mixture of twelve components is fitted to five clusters of very different size and shape.
The left panel shows the weight of each component after every iteration, the right one the rows with
the components that are left and their weights.  Few rows leave the prior its say, which expects the
covariance of all rows: the smallest cluster's ellipse is wider than its rows.

    python examples/bayesian.py [--output bayesian.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastgmm import BayesianGaussianMixture, History

N_COMPONENTS = 12
# Okabe and Ito's colours, which colour-blind eyes tell apart; markers say it a second time.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#B0B0B0"


def make_data(seed=0):
    """Draw 3000 rows from five clusters in two dimensions."""
    rng = np.random.default_rng(seed)
    clusters = (  # rows, mean, covariance
        (1200, (0, 0), ((1.0, 0.7), (0.7, 1.0))),
        (800, (5, 1), ((0.3, 0.0), (0.0, 2.0))),
        (600, (1, 6), ((2.0, -0.6), (-0.6, 0.5))),
        (300, (7, 7), ((0.5, 0.2), (0.2, 0.5))),
        (100, (-4, 4), ((0.15, 0.0), (0.0, 0.15))),
    )
    return np.concatenate([rng.multivariate_normal(m, c, size=n) for n, m, c in clusters])


def draw_weights(axes, history, order, alive):
    """Draw each component's weight after every iteration."""
    weights = np.array([record.weights for record in history.records])
    steps = np.arange(1, len(weights) + 1)
    for place, k in enumerate(order):
        style = {"color": COLOURS[place], "lw": 2} if place < alive else {"color": GREY, "lw": 1}
        axes.plot(steps, weights[:, k], zorder=2 - (place >= alive), **style)
    axes.axhline(0.1 / N_COMPONENTS, ls=":", color="black", lw=1)
    axes.text(
        0.6 * steps[-1], 0.09 / N_COMPONENTS, "a tenth of an even share", va="top", ha="center"
    )
    axes.set(xlabel="Iteration", ylabel="Weight", yscale="log")
    axes.set(xlim=(1, steps[-1]), ylim=(1e-4, 0.7))
    axes.set_title(f"{N_COMPONENTS - alive} of {N_COMPONENTS} components die off")


def draw_clusters(axes, model, X, order, alive):
    """Draw the rows, and the 95 % ellipse of each component that is left."""
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.sqrt(-2 * np.log(0.05)) * np.column_stack([np.cos(angle), np.sin(angle)])
    labels = model.predict(X)
    for place, k in enumerate(order[:alive]):
        colour, rows = COLOURS[place], X[labels == k]
        axes.scatter(*rows.T, s=9, color=colour, marker=MARKERS[place], alpha=0.5, lw=0)
        ellipse = model.means_[k] + circle @ np.linalg.cholesky(model.covariances_[k]).T
        axes.plot(*ellipse.T, color=colour, lw=2)
        top = ellipse[ellipse[:, 1].argmax()]
        axes.annotate(f"{model.weights_[k]:.1%}", top, (0, 5), textcoords="offset points")
    axes.set(xlabel="$x_0$", ylabel="$x_1$", aspect="equal")
    axes.set_title(f"The {alive} that are left, with 95 % ellipses")


def main():
    """Fit, and draw into the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_suffix(".png")
    parser.add_argument("--output", default=default, help="where the picture goes")
    options = parser.parse_args()

    X = make_data()
    history = History()
    model = BayesianGaussianMixture(
        n_components=N_COMPONENTS, weight_concentration_prior=0.01, max_iter=1000, random_state=0
    )
    model.set_callbacks(history).fit(X)
    alive = model.n_effective_components_
    order = np.argsort(-model.weights_)
    print(f"{alive} of {N_COMPONENTS} components are left after {model.n_iter_} iterations;")
    print("their weights:", np.round(model.weights_[order[:alive]], 3))

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_weights(left, history, order, alive)
    draw_clusters(right, model, X, order, alive)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.output, dpi=80)


if __name__ == "__main__":
    main()

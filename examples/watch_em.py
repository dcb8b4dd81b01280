"""EM at work: from a deliberately bad random start to convergence.

Every point starts with random shares in all components, so that all of them begin at the middle
of the data. A `History` keeps each iteration; the pictures show some of them, and the bound.

    python examples/watch_em.py [--output watch_em.png] [--gif watch_em.gif]
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from fastgmm import GaussianMixture, History, plot
from fastgmm.data import load_faithful

DURATION, WAITING = "eruption duration (min)", "waiting time (min)"


def main():
    """Fit, and draw into the files that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--gif", help="also write an animation, a frame an iteration")
    options = parser.parse_args()

    X, history = load_faithful(), History()
    model = GaussianMixture(2, init_params="random", tol=1e-7, max_iter=500, random_state=0)
    model.set_callbacks(history).fit(X)

    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = figure.subplot_mosaic("112233;445566;bbbbbb", height_ratios=(1, 1, 0.8))
    steps = [1, 10, 15, 18, 21, model.n_iter_]  # nothing seems to happen at first
    drawn = plot.em(history, X, ax=[panels[name] for name in "123456"], steps=steps)
    for i, ax in enumerate(drawn):
        ax.set(xlim=(1, 6), ylim=(35, 105), xlabel=DURATION if i > 2 else "")
        ax.set_ylabel(WAITING if i in (0, 3) else "")
    for sd, line in ((1, "-"), (2, "--")):
        panels["6"].plot([], [], line, color="grey", label=f"{sd} sd")
    panels["6"].legend(frameon=False, loc="lower right")

    ax = panels["b"]
    ax.plot(range(1, len(history) + 1), history.bounds, color="black", linewidth=1)
    at = [history.bounds[step - 1] for step in steps]
    ax.plot(steps, at, "o", color="#D55E00", label="shown above")
    ax.set_title(f"The bound never falls; converged after {model.n_iter_} iterations")
    ax.set(xlabel="iteration", ylabel="log-likelihood\nper eruption")
    ax.legend(frameon=False)
    for ax in panels.values():
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.output, dpi=80)

    if options.gif:
        ax = Figure(figsize=(5, 4), layout="constrained").subplots()
        animation = plot.animate_em(history, X, ax=ax)
        ax.set(xlabel=DURATION, ylabel=WAITING)
        animation.save(options.gif, writer="pillow", dpi=70)


if __name__ == "__main__":
    main()

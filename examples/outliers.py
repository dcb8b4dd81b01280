"""Anomalies by the density of a mixture: labelled data beside other detectors, and a live stream.

    python examples/outliers.py [--output outliers.png]

Every detector learns from normal rows alone and is judged by the ranking of rows it has not seen
(ROC-AUC: the chance that an anomaly scores worse than a normal row). No label is used for tuning.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.covariance import EmpiricalCovariance
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from fastgmm import FitWarning, GaussianMixture, GaussianMixtureOutlierDetector

BLUE, SKY, VERMILLION, ORANGE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#666666"
FALSE_ALARM = 0.001
SPLITS = 10


def fit_mixture(X):
    """Fit the mixture with the smallest BIC: 1 to 6 components, two covariance types."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # of candidates that are too large for X
        candidates = [
            GaussianMixture(
                k, covariance_type=kind, reg_covar=1e-3, max_iter=1000, random_state=0
            ).fit(X)
            for k in range(1, 7)
            for kind in ("full", "diag")
        ]
    return min(candidates, key=lambda model: model.bic(X))


def judge(normal, unseen, is_anomaly):
    """Give the ROC-AUC of each detector."""
    scaler = StandardScaler().fit(normal)
    normal, unseen = scaler.transform(normal), scaler.transform(unseen)
    mixture = fit_mixture(normal)
    make = GaussianMixtureOutlierDetector.from_mixture
    scores = {
        "mixture": make(mixture, normal).score_samples(unseen),
        "component": make(mixture, rule="component", false_alarm=0.01).score_samples(unseen),
        "Mahalanobis": -EmpiricalCovariance().fit(normal).mahalanobis(unseen),
        "isolation forest": IsolationForest(random_state=0).fit(normal).score_samples(unseen),
    }
    return {name: roc_auc_score(~is_anomaly, score) for name, score in scores.items()}


def of_table(X, is_anomaly):
    """Judge on random halves of the normal rows: one to learn from, the other to be recognised."""
    found = []
    for seed in range(SPLITS):
        normal = np.random.default_rng(seed).permutation(np.flatnonzero(~is_anomaly))
        half = len(normal) // 2
        test = np.concatenate([normal[half:], np.flatnonzero(is_anomaly)])
        found.append(judge(X[normal[:half]], X[test], is_anomaly[test]))
    return {name: np.mean([result[name] for result in found]) for name in found[0]}


def make_stream(n_normal=3000, n_live=6000, drift_from=4500, seed=1):
    """Make a machine's temperature and vibration: history, then live rows, one a second.

    It idles, works or works hard. Live rows hold single faults, many of which lie between these
    states, and towards the end the temperature sensor drifts.
    """
    rng = np.random.default_rng(seed)
    means = np.array([[35.0, 0.8], [58.0, 2.0], [72.0, 4.5]])
    covariances = np.array(
        [[[4.0, 0.05], [0.05, 0.01]], [[9.0, 0.8], [0.8, 0.12]], [[6.0, -0.9], [-0.9, 0.35]]]
    )

    def draw(n):
        modes = rng.choice(3, size=n, p=[0.3, 0.5, 0.2])
        noise = rng.standard_normal((n, 2, 1))
        return means[modes] + (np.linalg.cholesky(covariances)[modes] @ noise)[:, :, 0]

    live = draw(n_live)
    is_fault = rng.random(n_live) < 0.01
    live[is_fault] = rng.uniform((28, 0.3), (82, 6.5), size=(is_fault.sum(), 2))
    is_drift = np.arange(n_live) >= drift_from
    live[is_drift, 0] += np.linspace(0, 15, is_drift.sum())
    return draw(n_normal), live, is_fault, is_drift


def draw_density(axes, detector, live, is_fault, is_alarm):
    """Draw the learned density with live rows from before the drift."""
    x, y = np.meshgrid(np.linspace(24, 86, 300), np.linspace(-0.2, 7, 300))
    log_density = detector.mixture_.score_samples(np.column_stack([x.ravel(), y.ravel()]))
    levels = log_density.max() + np.arange(-12, 1.0, 1.5)
    axes.contourf(x, y, log_density.reshape(x.shape), levels, cmap="Blues", alpha=0.75)
    passed = ~is_alarm & ~is_fault
    axes.scatter(*live[passed].T, s=3, c=GREY, lw=0, label="no alarm")
    kinds = (
        (is_alarm & is_fault, "x", VERMILLION, "fault, alarm"),
        (~is_alarm & is_fault, "o", ORANGE, "fault, missed"),
        (is_alarm & ~is_fault, "+", "black", "false alarm"),
    )
    for rows, marker, colour, label in kinds:
        face = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"c": colour}
        name = f"{label} ({np.count_nonzero(rows)})"
        axes.scatter(*live[rows].T, s=45, marker=marker, lw=1.6, label=name, **face)
    axes.set(
        title="Learned density (a shade: ×4.5) and rows before the drift",
        xlabel="Temperature (°C)",
        ylabel="Vibration (mm/s)",
        xlim=(24, 86),
        ylim=(-0.2, 7),
    )
    axes.legend(loc="upper left", frameon=True, framealpha=0.9)


def draw_stream(above, below, log10_p, is_fault, is_drift):
    """Draw p-values over time, and below them how often there were alarms lately."""
    minutes = np.arange(len(log10_p)) / 60
    shown = np.maximum(log10_p, -16)
    normal = ~is_fault & ~is_drift
    above.scatter(minutes[normal], shown[normal], s=3, c=GREY, lw=0, label="normal")
    drifting = is_drift & ~is_fault
    above.scatter(minutes[drifting], shown[drifting], s=3, c=BLUE, lw=0, label="drifting")
    above.scatter(
        minutes[is_fault], shown[is_fault], s=30, c=VERMILLION, marker="x", lw=1.3, label="fault"
    )
    line = {"color": "black", "lw": 1.2, "ls": "--", "label": f"alarm below {FALSE_ALARM}"}
    above.axhline(np.log10(FALSE_ALARM), **line)
    above.set(
        title="Live scores: how likely a normal row lies so far out",
        ylabel="log₁₀ p-value (cut at −16)",
        ylim=(-16.8, 0.8),
    )
    above.legend(loc="lower left", bbox_to_anchor=(0, 0.12), markerscale=1.5, framealpha=0.9)
    above.tick_params(labelbottom=False)

    window = 300
    sums = np.cumsum(np.insert((log10_p < np.log10(FALSE_ALARM)).astype(float), 0, 0.0))
    share = 100 * (sums[window:] - sums[:-window]) / window
    below.plot(minutes[window - 1 :], share, color=BLUE)
    below.set(xlabel="Time (minutes)", ylabel="Alarms in the\nlast 5 min (%)", ylim=(0, None))
    start = minutes[is_drift][0]
    for axes in (above, below):
        axes.axvspan(start, minutes[-1], color=SKY, alpha=0.2, lw=0)
        axes.set_xlim(0, minutes[-1])
    below.text(start - 0.7, 0.92 * below.get_ylim()[1], "sensor drifts →", ha="right", va="top")


def main():
    """Compare, watch the stream, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    output = parser.parse_args().output

    cancer, wine = load_breast_cancer(), load_wine()
    history, live, is_fault, is_drift = make_stream()
    table = {
        "breast cancer, malignant": of_table(cancer.data, cancer.target == 0),
        "wine, cultivar 0": of_table(wine.data, wine.target == 0),
        "wine, cultivar 1": of_table(wine.data, wine.target == 1),
        "wine, cultivar 2": of_table(wine.data, wine.target == 2),
        "stream: faults": judge(history, live[~is_drift], is_fault[~is_drift]),
        "stream: faults and drift": judge(history, live, is_fault | is_drift),
    }
    names = list(next(iter(table.values())))
    print(f"{'ROC-AUC (* best)':26}" + "".join(f"{name:>18}" for name in names))
    for data, row in table.items():
        best = max(row.values())
        cells = (f"{row[name]:.3f}{'*' if row[name] > best - 5e-4 else ' '}" for name in names)
        print(f"{data:26}" + "".join(f"{cell:>18}" for cell in cells))

    mixture = fit_mixture(history)
    detector = GaussianMixtureOutlierDetector.from_mixture(
        mixture, rule="component", false_alarm=FALSE_ALARM
    )
    live_score = detector.scorer()
    start = time.perf_counter()
    decision = np.array([live_score(row) for row in live])
    spent = 1e6 * (time.perf_counter() - start) / len(live)
    alarm = decision < 0
    print(f"\nLive: {len(live)} rows one by one, {spent:.0f} µs each.")
    quiet = ~is_fault & ~is_drift
    print(f"False alarms: {alarm[quiet].mean():.2%} of normal rows; promised {FALSE_ALARM:.2%}.")
    print(f"Faults found before the drift: {alarm[is_fault & ~is_drift].mean():.0%}.")
    first = np.flatnonzero(alarm & ~is_drift)[0]
    print(f"\nWhy row {first} is an alarm (x0: temperature, x1: vibration):")
    print(detector.explain(live[first]))

    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    before = ~is_drift
    draw_density(left.subplots(), detector, live[before], is_fault[before], alarm[before])
    above, below = right.subplots(2, 1, height_ratios=(2.6, 1))
    log10_p = (decision + detector.offset_) / np.log(10)
    draw_stream(above, below, log10_p, is_fault, is_drift)
    for axes in (*left.axes, above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)
    print(f"\nPicture: {output}")


if __name__ == "__main__":
    main()

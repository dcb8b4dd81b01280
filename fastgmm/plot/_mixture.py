"""What is shown of a mixture: one or two of its features, and the numbers behind the curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from .._matrices import covariance_matrices

Array = NDArray[np.float64]
Features = int | str | Sequence[int | str]

_TAIL = 1e-5  # probability left outside of a picture, at either end
_MAX_POINTS = 5000
_N_FINE = 8  # how many of the narrowest components get grid points of their own


class FittedMixture(Protocol):
    """A mixture that can be drawn."""

    covariance_type: str
    weights_: NDArray[Any]
    means_: NDArray[Any]
    covariances_: NDArray[Any]


class Shown(NamedTuple):
    """A mixture of the features that are shown."""

    weights: Array  # (K,)
    means: Array  # (K, d), d = 1 or 2
    covariances: Array  # (K, d, d)
    features: list[int]  # which they are of the model's
    names: list[str]  # of the features


def shown(model: FittedMixture, features: Features | None, *, at_least: int = 1) -> Shown:
    """Return the marginal of one or two features.

    Raises
    ------
    TypeError
        If this is no mixture.
    ValueError
        If the model is not fitted, or if more features than two would be shown, or fewer than
        `at_least`.
    """
    if not hasattr(model, "means_"):
        name = type(model).__name__
        if hasattr(model, "mixture_"):
            raise TypeError(f"Expected a mixture, got {name}: give its mixture_.")
        if not hasattr(model, "fit"):
            raise TypeError(f"Expected a fitted mixture first, then rows; got {name} first.")
        raise ValueError(f"This {name} is not fitted yet: call its fit first.")
    return marginal(
        model.weights_,
        model.means_,
        model.covariances_,
        model.covariance_type,
        features=features,
        names=getattr(model, "feature_names_in_", None),
        at_least=at_least,
    )


def marginal(
    weights: NDArray[Any],
    means: NDArray[Any],
    covariances: NDArray[Any],
    covariance_type: str,
    *,
    features: Features | None,
    names: Any,
    at_least: int = 1,
) -> Shown:
    """Return the mixture of one or two features."""
    d = means.shape[1]
    labels = [f"feature {j}" for j in range(d)] if names is None else [str(n) for n in names]
    chosen = _chosen(features, d, labels, at_least)
    matrices = covariance_matrices(means, covariances, covariance_type)
    return Shown(
        np.asarray(weights, np.float64),
        np.asarray(means, np.float64)[:, chosen],
        matrices[:, chosen][:, :, chosen],
        chosen,
        [labels[j] for j in chosen],
    )


def _chosen(features: Features | None, d: int, labels: list[str], at_least: int) -> list[int]:
    if features is None:
        if d > 2:
            raise ValueError(
                f"The mixture has {d} features and a picture shows at most two: choose them with "
                "features=(i, j), or give model.marginal((i, j)) and those columns of the rows."
            )
        features = range(d)
    wanted = [features] if isinstance(features, int | np.integer | str) else list(features)
    numbers = [labels.index(f) if f in labels else f for f in wanted]
    chosen = [int(f) % d for f in numbers if not isinstance(f, str) and -d <= f < d]
    if len(chosen) < len(wanted):
        raise ValueError(f"features={features!r}: the mixture has {d}, {', '.join(labels)}.")
    if len(chosen) not in (1, 2) or len(set(chosen)) < len(chosen):
        raise ValueError(f"features={features!r}: choose one feature or two different ones.")
    if len(chosen) < at_least:
        raise ValueError("This picture needs two features; plot.density and plot.em draw one, too.")
    return chosen


def rows_shown(X: ArrayLike, mixture: Shown, n_features: int) -> tuple[Array, str | None]:
    """Return what is shown of the rows, and what to say if that is a sample of them.

    A histogram takes them all; points would hide one another.
    """
    some, note = sampled(X) if len(mixture.features) == 2 else (X, None)
    return columns(some, mixture, n_features), note


def sampled(X: Any) -> tuple[Any, str | None]:
    """Return rows enough for a picture, and what to say if those are not all."""
    n = len(X)
    if n <= _MAX_POINTS:
        return X, None
    rows = np.sort(np.random.default_rng(0).choice(n, _MAX_POINTS, replace=False))
    some = X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]
    return some, f"{_MAX_POINTS:,} of {n:,} rows shown"


def columns(X: ArrayLike, mixture: Shown, n_features: int) -> Array:
    """Return the columns of the rows X (n, n_features) that are shown."""
    rows = np.asarray(X)
    if rows.ndim != 2 or rows.shape[1] != n_features or len(rows) == 0:
        raise ValueError(
            f"Expected X of shape (n_samples, {n_features}), as the mixture has {n_features} "
            f"feature{'s' * (n_features > 1)}; got {rows.shape}."
        )
    chosen = rows[:, mixture.features].astype(np.float64)
    if not np.isfinite(chosen).all():
        raise ValueError("X contains NaN or infinity: leave those rows out of the picture.")
    return chosen


def component_densities(mixture: Shown, points: Array) -> Iterator[Array]:
    """Yield weight times density (n,) of one component after the other at points (n, d)."""
    parts = zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    for weight, mean, covariance in parts:
        factor = np.linalg.cholesky(2 * np.pi * covariance)
        scaled = np.linalg.solve(factor, (points - mean).T)
        yield weight / np.diagonal(factor).prod() * np.exp(-np.pi * (scaled**2).sum(axis=0))


def density_at(mixture: Shown, points: Array) -> Array:
    """Return the density of the mixture (n,) at points (n, d)."""
    return sum(component_densities(mixture, points), np.zeros(len(points)))


def axis_points(mixture: Shown, j: int, n: int) -> Array:
    """Return points along feature j: evenly over all that matters, closer where it is narrow."""
    means, sd = mixture.means[:, j], np.sqrt(mixture.covariances[:, j, j])
    wide = np.linspace((means - 8 * sd).min(), (means + 8 * sd).max(), 2000)
    below = mixture.weights @ ndtr((wide - means[:, None]) / sd[:, None])
    first, last = np.searchsorted(below, [_TAIL, below[-1] - _TAIL])
    low, high = wide[first - 1], wide[last]
    narrowest = np.argsort(sd)[:_N_FINE]
    narrow = [k for k in narrowest if sd[k] < (high - low) / 20]
    fine = [means[k] + sd[k] * np.linspace(-6, 6, n // 4 | 1) for k in narrow]
    points = np.concatenate([np.linspace(low, high, n), *fine])
    return np.unique(points[(points >= low) & (points <= high)])


def mass_levels(mixture: Shown, masses: Sequence[float], n_draws: int = 20_000) -> Array:
    """Return the densities above which these shares of the mixture's mass lie.

    They are quantiles of the density at draws from the mixture (Hyndman 1996, "Computing and
    graphing highest density regions", Amer. Statist. 50(2), section 3), with a fixed seed.
    """
    rng = np.random.default_rng(0)
    k = rng.choice(len(mixture.weights), n_draws, p=mixture.weights / mixture.weights.sum())
    factors = np.linalg.cholesky(mixture.covariances)
    noise = rng.standard_normal((n_draws, mixture.means.shape[1]))
    draws = mixture.means[k] + np.einsum("nij,nj->ni", factors[k], noise)
    levels: Array = np.quantile(density_at(mixture, draws), 1 - np.asarray(masses))
    return levels

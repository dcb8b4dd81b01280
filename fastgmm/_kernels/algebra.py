"""Algebra on whole components: covariances from moments, inverse factors, squares multiplied out.

LAPACK would do the second, one component a call; its calls cost more than the work where matrices
are small, and its threads get in the way of ours where they are large.  NumPy would do the third,
in a dozen calls for each pass, which take longer than the work, too.
"""

from typing import Any

import numpy as np

from .arrays import Array
from .exp import LOG2_E
from .options import device, entry

_EPSILON = 2.0**-52


@entry
def central_covariances(
    second: Array, params: Any, first: Array, mass: Array, guarded: Array, shift: Array, out: Array
) -> None:
    """Write the covariances about new means to out (K, d, d).

    second : IN (K, d (d + 1) / 2) packed lower triangles about the reference; params : not read;
    first : IN (K, d); mass, guarded : IN (K,), the second of which divides; shift : IN (K, d) from
    the reference to the new means.
    """
    n_components, d = shift.shape
    for k in range(n_components):
        scale = 1.0 / guarded[k]
        pair = 0
        for i in range(d):
            a, s = first[k, i], shift[k, i]
            moved = mass[k] * s - a
            for j in range(i + 1):
                value = (second[k, pair] + moved * shift[k, j] - s * first[k, j]) * scale
                out[k, i, j] = value
                out[k, j, i] = value
                pair += 1


@device
def _cholesky(matrix: Array, lower: Array) -> bool:
    """Write the lower Cholesky factor of a matrix (d, d); return whether there is one.

    A pivot that is rounding alone counts as 0: of a feature that is there twice, it is the
    processor that decides on which side of 0 it comes out.
    """
    d = matrix.shape[0]
    for i in range(d):
        for j in range(i + 1):
            total = 0.0
            for m in range(j):
                total += lower[i, m] * lower[j, m]
            value = matrix[i, j] - total
            if j < i:
                lower[i, j] = value / lower[j, j]
            elif d * _EPSILON * matrix[i, i] < value < np.inf:  # false for NaN, too
                lower[i, i] = np.sqrt(value)
            else:
                return False
    return True


@device
def _invert(lower: Array, out: Array) -> None:
    """Write the inverse of a lower triangular matrix (d, d), with zeros above its diagonal."""
    d = lower.shape[0]
    for i in range(d):
        for j in range(d):
            out[i, j] = 0.0
        for m in range(i):
            factor = lower[i, m]
            for j in range(m + 1):
                out[i, j] -= factor * out[m, j]
        scale = 1.0 / lower[i, i]
        for j in range(i):
            out[i, j] *= scale
        out[i, i] = scale


@entry
def inverse_factors(matrices: Array, params: Any, work: Array, out: Array) -> int:
    """Write the inverses of the lower Cholesky factors of matrices (K, d, d) to out (K, d, d).

    params : not read; work : WORK (d, d).  Returns the number of the first matrix that is not
    positive definite, or -1.
    """
    for k in range(matrices.shape[0]):
        if not _cholesky(matrices[k], work):
            return k
        _invert(work, out[k])
    return -1


@device
def _write_mean(weights: Array, means: Array, out: Array) -> None:
    """Write the mean of the mixture to out (d,)."""
    n_components, d = means.shape
    total = 0.0
    for k in range(n_components):
        total += weights[k]
    for j in range(d):
        out[j] = 0.0
        for k in range(n_components):
            out[j] += weights[k] / total * means[k, j]


@entry
def multiply_out(
    factors: Array,
    params: Any,
    weights: Array,
    means: Array,
    covariances: Array,
    constants: Array,
    origin: Array,
    out: Array,
) -> float:
    """Write the log-densities of components as polynomials about the mean of the mixture.

    factors : IN (K, d, d), lower triangular T with T^T T the precision; params : not read;
    weights, constants : IN (K,); means : IN (K, d); covariances : IN (K, d, d); origin : OUT (d,);
    out : OUT (K, 1 + d + d (d + 1) / 2), the constant, then what features, and the products of
    pairs (row by row of a lower triangle), are multiplied by.

    Returns the largest sum of what terms may be for rows of a component, or NaN: so many digits
    may cancel.
    """
    n_components, d = means.shape
    _write_mean(weights, means, origin)
    largest, doubt = 0.0, 0.0
    for k in range(n_components):
        constant, terms, pair = constants[k], 0.0, 1 + d
        for i in range(d):
            out[k, 1 + i] = 0.0
        for i in range(d):
            y = means[k, i] - origin[i]
            reach = abs(y) + np.sqrt(covariances[k, i, i])
            for j in range(i + 1):
                z = means[k, j] - origin[j]
                precision = 0.0
                for m in range(i, d):
                    precision += factors[k, m, i] * factors[k, m, j]
                term = abs(precision) * reach * (abs(z) + np.sqrt(covariances[k, j, j]))
                out[k, 1 + i] += precision * z
                if j < i:
                    out[k, 1 + j] += precision * y
                    constant -= precision * y * z
                    terms += 2.0 * term
                    out[k, pair] = -LOG2_E * precision
                else:
                    constant -= 0.5 * precision * y * z
                    terms += term
                    out[k, pair] = -0.5 * LOG2_E * precision
                pair += 1
        out[k, 0] = LOG2_E * constant
        for i in range(d):
            out[k, 1 + i] *= LOG2_E
        largest = max(largest, terms)
        doubt += 0.0 * terms  # a maximum may pass over NaN
    return largest + doubt


@entry
def multiply_out_scaled(
    precisions: Array,
    params: Any,
    weights: Array,
    means: Array,
    constants: Array,
    origin: Array,
    out: Array,
) -> float:
    """Do the same for components without products of features.

    precisions : IN (K, d), or (K, 1) for one in every direction; params : not read; out : OUT
    (K, 1 + d + d), or (K, 1 + d + 1), the constant, then what features, and their squares or the
    sum of these, are multiplied by.

    Returns the largest square distance of a component from the origin, or NaN.
    """
    n_components, d = means.shape
    columns = precisions.shape[1]
    _write_mean(weights, means, origin)
    largest, doubt = 0.0, 0.0
    for k in range(n_components):
        square = 0.0
        for j in range(d):
            y, precision = means[k, j] - origin[j], precisions[k, min(j, columns - 1)]
            square += precision * y * y
            out[k, 1 + j] = LOG2_E * precision * y
        for j in range(columns):
            out[k, 1 + d + j] = -0.5 * LOG2_E * precisions[k, j]
        out[k, 0] = LOG2_E * (constants[k] - 0.5 * square)
        largest = max(largest, square)
        doubt += 0.0 * square
    return largest + doubt


@entry
def multiply_out_whitened(
    factor: Array,
    params: Any,
    weights: Array,
    means: Array,
    covariance: Array,
    constants: Array,
    origin: Array,
    spread: Array,
    centres: Array,
    out: Array,
) -> tuple[float, float]:
    """Do the same for components that share a factor.

    factor : IN (d, d), lower triangular; params : not read; covariance : IN (d, d); spread : OUT
    (d,), the standard deviations of the mixture; centres : OUT (K, d), the means less the origin,
    whitened; out : OUT (K, 1 + d + 1), of which the last column is for the whitened row's square.

    Returns the size of the largest terms, which are square distances from the origin or what the
    features of a row add up to, and the largest variance of the centres; or NaN.
    """
    n_components, d = means.shape
    _write_mean(weights, means, origin)
    largest, between, doubt = 0.0, 0.0, 0.0
    for j in range(d):
        variance = covariance[j, j]
        for k in range(n_components):
            variance += weights[k] * (means[k, j] - origin[j]) ** 2
        spread[j] = np.sqrt(variance)
    for k in range(n_components):
        square, terms = 0.0, 0.0
        for j in range(d):
            out[k, 1 + j] = 0.0
        for i in range(d):
            centre = 0.0
            for j in range(i + 1):
                centre += factor[i, j] * (means[k, j] - origin[j])
            for j in range(i + 1):
                out[k, 1 + j] += centre * factor[i, j]
            centres[k, i] = centre
            square += centre * centre
        for j in range(d):
            terms += abs(out[k, 1 + j]) * spread[j]
            out[k, 1 + j] *= LOG2_E
        out[k, 0] = LOG2_E * (constants[k] - 0.5 * square)
        out[k, 1 + d] = -0.5 * LOG2_E
        largest = max(largest, square, terms)
        doubt += 0.0 * (square + terms)  # a maximum may pass over NaN
    for i in range(d):
        variance = 0.0
        for k in range(n_components):
            variance += weights[k] * centres[k, i] ** 2
        between = max(between, variance)
    return largest + doubt, between + doubt


@entry
def shared_squares(
    factor: Array,
    params: Any,
    scatter: Array,
    offset: Array,
    residual: Array,
    weight: float,
    work: Array,
) -> tuple[float, float]:
    """Return the mean square length of whitened rows, and the size of the terms it is a sum of.

    factor : IN (d, d), lower triangular; params : not read; scatter : IN (d, d), of rows of this
    weight about a point; offset : IN (d,), of that point from the origin that is subtracted before
    whitening; residual : IN (d,), of the rows' mean from that point; work : WORK (d,).
    """
    squares, sizes = 0.0, 0.0
    for i in range(factor.shape[0]):
        moved, rest, reach, variance = 0.0, 0.0, 0.0, 0.0
        for m in range(i + 1):
            work[m] = 0.0
        for j in range(i + 1):
            slope, y = factor[i, j], offset[j] + residual[j]
            moved += slope * y
            rest += slope * residual[j]
            # of a feature that is constant, rounding may make the variance negative
            reach += abs(slope) * np.sqrt(max(0.0, scatter[j, j] / weight + y * y))
            for m in range(i + 1):
                work[m] += slope * scatter[j, m]
        for m in range(i + 1):
            variance += work[m] * factor[i, m]
        squares += variance / weight + moved * moved - rest * rest
        sizes += reach * reach
    return squares, sizes + 0.0 * squares

"""Measures of how well a checkpoint would transfer to labelled images, without fine-tuning it; larger is better.

They read penultimate features (``[k, D]``) or the probabilities of the checkpoint's own classes (``[k, C]``), and the
labels of the target (``[k]``, from 0). None of them has a unit or an error. Beside them stands the static order: the
checkpoint with more parameters first, which needs no function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hf_infodist.baselines.result import Inapplicable
from hf_infodist.models.classifier import Classifier
from hf_infodist.outputs.arrays import Outputs

Array = NDArray[np.floating]
Labels = NDArray[np.integer]
NEIGHBOURS = 5  # that vote; of those usual (1 to 20) in the middle, and not chosen by any result
_FOLDS = 5
_ROUNDS, _SETTLED = 1000, 1e-9  # of evidence maximisation: at most, and relative change at which it ends
_TINY = 1e-12


def knn(features: Array, labels: Labels) -> float:
    """Return the share of images whose label most of their 5 nearest have, each image left out of its own vote.

    By Euclidean distance of standardised features (Cover & Hart 1967); equal votes go to the class of the nearer.

    Args:
        features: ``[k, D]``.
        labels: ``[k]``.

    Raises:
        Inapplicable: If there is one class only, or no more than 5 images.
    """
    from sklearn.neighbors import NearestNeighbors

    features, targets = _checked(features, labels)
    if len(features) <= NEIGHBOURS:
        raise Inapplicable(f"needs more than {NEIGHBOURS} images")
    search = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(_standardised(features))
    weights = 1 + 0.1 * 0.5 ** np.arange(NEIGHBOURS)  # nearest first; the rest only breaks ties
    votes = weights @ targets[search.kneighbors(return_distance=False)]  # [k, classes]
    return float((votes.argmax(1) == targets.argmax(1)).mean())


def linear_probe(features: Array, labels: Labels) -> float:
    """Return the accuracy of logistic regression on standardised features, in 5-fold cross-validation.

    As Alain & Bengio (2017) probe layers; L2 penalty of scikit-learn's default strength. Arguments as in `knn`.

    Raises:
        Inapplicable: If there is one class only, or one that a fold could hold all images of.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, targets = _checked(features, labels)
    if len(features) - targets.sum(0).max() <= -(-len(features) // _FOLDS):
        raise Inapplicable("all images outside one fold might be of one class")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = KFold(_FOLDS, shuffle=True, random_state=0)
    parts = cross_val_score(probe, features, targets.argmax(1), cv=folds)
    sizes = [len(held_out) for _, held_out in folds.split(features)]
    return float(np.average(parts, weights=sizes))


def logme(features: Array, labels: Labels) -> float:
    """Return the logarithm of the maximum evidence an image (You et al. 2021, equation 2 and algorithm 1).

    A Bayesian linear regression of each class's indicator, y ~ N(F w, 1/β), w ~ N(0, 1/α), whose α and β maximise

        log p(y | F) = n/2 log β + D/2 log α − n/2 log 2π − β/2 ‖F m − y‖² − α/2 ‖m‖² − 1/2 log |αI + βFᵀF|,

    with m = β (αI + βFᵀF)⁻¹ Fᵀ y; divided by n, and averaged over classes. Arguments as in `knn`.

    Raises:
        Inapplicable: If there is one class only, or all features are 0.
    """
    features, targets = _checked(features, labels)
    if not features.any():
        raise Inapplicable("all features are 0")
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    return float(np.mean([_evidence(singular**2, left.T @ y, y, features.shape[1]) for y in targets.T])) / len(targets)


def _evidence(squares: Array, projected: Array, y: Array, width: int) -> float:
    """Return the greatest log evidence of one regression, by MacKay's fixed-point iteration.

    Args:
        squares: Squared singular values of the features, ``[r]``.
        projected: The targets along the left singular vectors, ``[r]``.
        y: The targets, ``[n]``.
        width: Number of features.
    """
    n, outside = len(y), max(0.0, float(y @ y - projected @ projected))
    alpha = beta = 1.0
    for _ in range(_ROUNDS):
        stiffness = alpha + beta * squares
        shrunk = float((beta * squares / stiffness).sum())  # effective number of parameters, γ
        length = float((beta**2 * squares * projected**2 / stiffness**2).sum())  # ‖m‖²
        left_over = float(((alpha * projected / stiffness) ** 2).sum()) + outside  # ‖F m − y‖²
        before = alpha / beta
        alpha, beta = shrunk / max(length, _TINY), (n - shrunk) / max(left_over, _TINY)
        if abs(alpha / beta - before) <= _SETTLED * before:
            break
    stiffness = alpha + beta * squares
    length = float((beta**2 * squares * projected**2 / stiffness**2).sum())
    left_over = float(((alpha * projected / stiffness) ** 2).sum()) + outside
    determinant = float(np.log(stiffness).sum()) + (width - len(squares)) * np.log(alpha)
    constant = n * np.log(beta) + width * np.log(alpha) - n * np.log(2 * np.pi)
    return float(constant - beta * left_over - alpha * length - determinant) / 2


def h_score(features: Array, labels: Labels) -> float:
    """Return tr(cov(f)⁺ cov(E[f | y])), how far classes lie apart (Bao et al. 2019, definition 2).

    At most the smaller of D and the number of classes less one; near that whenever images are as few as features.
    Arguments as in `knn`.

    Raises:
        Inapplicable: If there is one class only.
    """
    features, targets = _checked(features, labels)
    centred = features - features.mean(0)
    between = _class_means(centred, targets)
    return float(np.trace(np.linalg.pinv(centred.T @ centred, hermitian=True) @ (between.T @ between)))


def h_score_shrunk(features: Array, labels: Labels) -> float:
    """Return the H-score with a shrunk covariance (Ibrahim et al. 2022, equation 7).

    tr(Σ_a⁻¹ (1 − a) cov(E[f | y])), Σ_a = (1 − a) cov(f) + a tr(cov(f))/D I, with a from Ledoit & Wolf (2004).
    Arguments as in `knn`.

    Raises:
        Inapplicable: If there is one class only, or all features are constant.
    """
    from sklearn.covariance import ledoit_wolf

    features, targets = _checked(features, labels)
    if not np.ptp(features, axis=0).any():
        raise Inapplicable("the features are the same for all images")
    centred = features - features.mean(0)
    covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
    between = _class_means(centred, targets)
    return float((1 - shrinkage) * np.trace(np.linalg.solve(covariance, between.T @ between))) / len(features)


def leep(probabilities: Array, labels: Labels) -> float:
    """Return the log expected empirical prediction, nats an image, at most 0 (Nguyen et al. 2020, equation 2).

    mean_i log Σ_z P(y_i | z) θ_z(x_i), where P(y, z) = mean_i [y_i = y] θ_z(x_i) and θ are what the checkpoint says.

    Args:
        probabilities: θ, ``[k, C]``.
        labels: ``[k]``.

    Raises:
        Inapplicable: If there is one class only.
    """
    probabilities, targets = _checked(probabilities, labels)
    joint = targets.T @ probabilities  # [classes, C]
    given = joint / np.maximum(joint.sum(0), np.finfo(float).tiny)
    return float(np.log(((probabilities @ given.T) * targets).sum(1)).mean())


def nce(probabilities: Array, labels: Labels) -> float:
    """Return the negative conditional entropy −H(Y | Z), nats an image, at most 0 (Tran et al. 2019, equation 4).

    Z is the class that the checkpoint finds likeliest. Arguments as in `leep`.

    Raises:
        Inapplicable: If there is one class only.
    """
    probabilities, targets = _checked(probabilities, labels)
    return leep(np.eye(probabilities.shape[1])[probabilities.argmax(1)], targets.argmax(1))


@dataclass(frozen=True)
class TransferMeasure:
    """A measure of transferability.

    Attributes:
        reads: What it looks at.
        source: Who proposed it.
        compute: Its value, given what it reads and the labels; raises `Inapplicable`.
    """

    reads: Literal["features", "probabilities"]
    source: str
    compute: Callable[[Array, Labels], float]


MEASURES: dict[str, TransferMeasure] = {
    "kNN": TransferMeasure("features", "Cover & Hart 1967", knn),
    "linear probe": TransferMeasure("features", "Alain & Bengio 2017", linear_probe),
    "LogME": TransferMeasure("features", "You et al. 2021", logme),
    "H-score": TransferMeasure("features", "Bao et al. 2019", h_score),
    "shrunk H-score": TransferMeasure("features", "Ibrahim et al. 2022", h_score_shrunk),
    "LEEP": TransferMeasure("probabilities", "Nguyen et al. 2020", leep),
    "NCE": TransferMeasure("probabilities", "Tran et al. 2019", nce),
}


def scores(features: Array, probabilities: Array | None, labels: Labels) -> dict[str, float | None]:
    """Return every measure of a checkpoint by name; None where it does not apply.

    Args:
        features: ``[k, D]``.
        probabilities: ``[k, C]``; None of a checkpoint without a head.
        labels: ``[k]``.
    """
    found: dict[str, float | None] = {}
    for name, measure in MEASURES.items():
        read = features if measure.reads == "features" else probabilities
        try:
            found[name] = None if read is None else measure.compute(read, labels)
        except Inapplicable:
            found[name] = None
    return found


def measure(model: Classifier, outputs: Outputs, labels: Labels) -> dict[str, float | None]:
    """Return every measure of a checkpoint, and its number of weights without the head; the model is not run.

    Args:
        model: The checkpoint.
        outputs: What it makes of the images.
        labels: ``[k]``.
    """
    probabilities = softmax(np.asarray(outputs.logits[:], np.float64), axis=1) if model.heads else None
    heads = [model.network.get_submodule(name) for name in model.heads]
    in_heads = {id(weights) for head in heads for weights in head.parameters()}
    count = sum(weights.numel() for weights in model.network.parameters() if id(weights) not in in_heads)
    return scores(np.asarray(outputs.features[:], np.float64), probabilities, labels) | {"parameters": count}


def _checked(rows: Array, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows in float64, and an indicator for each class that is there, ``[k, classes]``."""
    classes, place = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise Inapplicable("all images have one label")
    return np.asarray(rows, dtype=np.float64), np.eye(len(classes))[place]


def _standardised(features: Array) -> Array:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit_transform(features)


def _class_means(centred: Array, targets: Array) -> Array:
    """Return for each image the mean features of its class, ``[k, D]``."""
    return targets @ (targets.T @ centred / targets.sum(0)[:, None])

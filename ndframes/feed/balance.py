"""Balance: how likely each box is, by its class, its image or any attribute of its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import PatchError, shorten

if TYPE_CHECKING:
    from .columns import BoxColumns

__all__ = ["Balance", "BalanceSpec", "repeat_factors"]
#: How likely each box is. ``None``: all alike. ``"class"``: all classes alike. ``"repeat"``, or ``("repeat", t)``: images by the
#: repeat factor of their rarest class. Pairs ``(attribute, weights)``: each within the last.
BalanceSpec = (
    Literal["class", "repeat"]
    | tuple[Literal["repeat"], float]
    | Sequence[tuple[str, Mapping[Any, float] | None]]
    | None
)
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]
# The threshold of LVIS (Gupta, Dollar and Girshick, 2019): classes in fewer than one of a thousand images are repeated.
_REPEAT_BELOW = 0.001


@dataclass(frozen=True, slots=True)
class Balance:
    """How likely each of some boxes is.

    Attributes:
        dataset: its name, for messages.
        images: for each box the number of its image.
        image_weights: for each image of the dataset its weight; ``None``: images do not count.
        codes: for each level the number of each box's value.
        level_weights: for each level the weights of the values.
    """

    dataset: str
    images: _Ints
    image_weights: _Floats | None
    codes: tuple[_Ints, ...]
    level_weights: tuple[_Floats, ...]

    @classmethod
    def of(
        cls,
        spec: BalanceSpec,
        columns: BoxColumns,
        numbers: _Ints,
        image_count: int,
        read: Callable[[str], Iterable[Any]],
    ) -> Balance:
        """That of the boxes ``numbers``.

        Args:
            spec: as given.
            columns: all boxes.
            numbers: the boxes that can be drawn.
            image_count: the number of images, with and without boxes.
            read: returns the values of an attribute for all annotations.

        Raises:
            PatchError: ``spec`` is not valid, a class has no boxes, or no box has a weight above 0.
        """
        images, labels = columns.image_numbers[numbers], columns.labels[numbers]
        if spec is None:
            return cls(columns.dataset, images, None, (), ())
        if spec == "class":
            _check_all_classes(columns, labels)
            return cls(columns.dataset, images, None, (labels,), (np.ones(len(columns.names)),))
        threshold = _find_threshold(spec)
        if threshold is not None:
            factors = repeat_factors(labels, images, image_count, threshold)
            weights = np.zeros(len(columns.image_ids))
            np.maximum.at(weights, images, factors[labels])
            return cls(columns.dataset, images, weights, (), ())
        codes, level_weights = [], []
        for name, given in _check_levels(spec):
            values = [columns.names[label] for label in labels] if name == "class" else None
            if values is None:
                found = list(read(name))
                values = [found[number] for number in numbers.tolist()]
            known, code = _number_values(name, values)
            codes.append(code)
            level_weights.append(_weights_of(columns.dataset, name, known, given))
        return cls(columns.dataset, images, None, tuple(codes), tuple(level_weights))

    @property
    def groups(self) -> _Ints:
        """For each box the number of the group in which all boxes are equally likely."""
        group = np.zeros(len(self.images), np.int64)
        for code in self.codes:
            group = np.unique(group * (int(code.max(initial=0)) + 1) + code, return_inverse=True)[1].reshape(-1)
        return group

    def weigh(self, chosen: _Bools) -> _Floats:
        """The weight of each box, if only the ``chosen`` ones can be drawn.

        Raises:
            PatchError: the weights of all of them are 0.
        """
        # Only boxes with a weight at each level, so that no branch of the tree is empty.
        alive = chosen.copy()
        for code, weights in zip(self.codes, self.level_weights, strict=True):
            alive &= weights[code] > 0
        places = np.flatnonzero(alive)
        share, group = np.ones(len(places)), np.zeros(len(places), np.int64)
        for code, weights in zip(self.codes, self.level_weights, strict=True):
            step = len(weights)
            keys, group = np.unique(group * step + code[places], return_inverse=True)
            group = group.reshape(-1)
            parents = np.unique(keys // step, return_inverse=True)[1].reshape(-1)
            value_weights = weights[keys % step]
            share *= (value_weights / np.bincount(parents, value_weights)[parents])[group]
        if self.image_weights is not None:
            group = self.images[places]
            share = self.image_weights[group]
        if len(self.codes) or self.image_weights is not None:
            share = share / np.bincount(group)[group]
        if not share.sum() > 0:
            raise PatchError(
                f"the weights that balance gives the boxes of {self.dataset} sum to zero; give one of them a weight above 0"
            )
        found: _Floats = np.zeros(len(chosen))
        found[places] = share
        return found


def repeat_factors(labels: _Ints, images: _Ints, image_count: int, threshold: float) -> _Floats:
    """For each label ``max(1, sqrt(threshold / share))``, where ``share`` is that of the images with the label (LVIS).

    Example:
        >>> repeat_factors(np.array([1, 1, 2]), np.array([0, 1, 1]), 100, 0.09).tolist()[1:]
        [2.1213203435596424, 3.0]
    """
    pairs = np.unique(np.stack([labels, images]), axis=1)
    shares = np.bincount(pairs[0], minlength=1) / image_count
    factors: _Floats = np.ones(len(shares))
    used = shares > 0
    factors[used] = np.maximum(1, np.sqrt(threshold / shares[used]))
    return factors


def _check_all_classes(columns: BoxColumns, labels: _Ints) -> None:
    counts = np.bincount(labels, minlength=len(columns.names))[1:]
    missing = [columns.names[number + 1] for number in np.flatnonzero(counts == 0)]
    if missing:
        raise PatchError(
            f"balance='class', but {columns.dataset} has no boxes of {len(missing):,} of its {len(counts):,} classes in these "
            f"images: {shorten(missing)}; remove these categories, or use balance=[('class', None)], which leaves them out"
        )


def _find_threshold(spec: Any) -> float | None:
    if spec == "repeat":
        return _REPEAT_BELOW
    if isinstance(spec, tuple) and len(spec) == 2 and spec[0] == "repeat" and not isinstance(spec[1], (Mapping, str)):
        if not 0 < spec[1] < np.inf:
            raise PatchError(f"balance={shorten(spec)}; give a share of the images above 0")
        return float(spec[1])
    return None


def _check_levels(spec: Any) -> list[tuple[str, Mapping[Any, float] | None]]:
    try:
        levels = [(name, weights) for name, weights in spec]
    except (TypeError, ValueError):
        levels = []
    is_valid = all(isinstance(n, str) and (w is None or isinstance(w, Mapping)) for n, w in levels)
    if isinstance(spec, str) or not levels or not is_valid:
        raise PatchError(
            f"balance={shorten(spec)}; give None, 'class', 'repeat' or a list of pairs (attribute, weights), where weights is a "
            "mapping from values or None"
        )
    return levels


def _number_values(name: str, values: Sequence[Any]) -> tuple[list[Any], _Ints]:
    """The different values, and for each box the number of its value."""
    numbers: dict[Any, int] = {}
    try:
        found = np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
    except TypeError as error:
        raise PatchError(f"balance: the attribute {name!r} has values that are not hashable: {error}") from error
    if list(numbers) == [None]:
        raise PatchError(
            f"balance: no annotation, image or video of these boxes has the attribute {name!r}; correct its name"
        )
    return list(numbers), found


def _weights_of(dataset: str, name: str, known: Sequence[Any], given: Mapping[Any, float] | None) -> _Floats:
    if given is None:
        return np.ones(len(known))
    unknown = [value for value in given if value not in known]
    if unknown:
        raise PatchError(
            f"balance: no box of {dataset} has {name} {shorten(unknown)}; the values are {shorten(list(known))}; correct the weights"
        )
    weights = np.array([given.get(value, 0) for value in known], np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise PatchError(f"balance: the weights of {name} are {shorten(dict(given))}; give finite numbers from 0")
    if not weights.any():
        raise PatchError(
            f"balance: the weights of {name} in {dataset} sum to zero; give one of {shorten(list(known))} a weight above 0"
        )
    return weights

"""The photographs of the examples."""

from __future__ import annotations

from pathlib import Path

from ..errors import MissingExtraError

__all__ = ["demo_paths"]


def demo_paths() -> dict[str, Path]:
    """The paths of photographs in scikit-image's wheel, by name.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise MissingExtraError('the demo photographs come with scikit-image: pip install "ndframes[demo]"')
    folder = Path(spec.origin).parent / "data"
    names = (
        "astronaut.png",
        "coffee.png",
        "chelsea.png",
        "hubble_deep_field.jpg",
        "retina.jpg",
        "ihc.png",
        "rocket.jpg",
        "moon.png",
    )
    return {name.partition(".")[0]: folder / name for name in names}

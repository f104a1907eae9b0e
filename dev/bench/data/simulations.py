"""Fields of two simulations on a periodic square, by integrators that need numpy alone; the same seed gives the same fields.

Gray-Scott: spots that divide (Pearson, Science 261, 1993). ``u`` is smooth, ``v`` is flat between the spots.
Kuramoto-Sivashinsky: chaos that is steep everywhere, by a semi-implicit spectral method.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: Names of the fields, in the order of the tables.
FIELDS = ("Gray-Scott u", "Gray-Scott v", "Kuramoto-Sivashinsky")
_FEED, _KILL = 0.037, 0.06
_DIFFUSION = 0.2, 0.1
_STEPS_BETWEEN_FRAMES = 30
_KS_STEP, _KS_STEPS_BETWEEN_FRAMES, _KS_FIRST_STEPS = 0.05, 10, 1200


def ensure_fields(folder: Path, extent: int, frames: int) -> dict[str, Path]:
    """Return the ``.npy`` file of each field: float32 ``(t, y, x)``. They are computed if they are not there."""
    paths = {name: folder / f"{name.replace(' ', '-')}-{extent}-{frames}.npy" for name in FIELDS}
    if not all(path.exists() for path in paths.values()):
        for name, stack in zip(
            FIELDS, (*integrate_gray_scott(extent, frames), integrate_ks(extent, frames)), strict=True
        ):
            np.save(paths[name], stack)
    return paths


def integrate_gray_scott(extent: int, frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return ``u`` and ``v`` of each stored moment, float32 ``(t, extent, extent)``."""
    rng = np.random.default_rng(seed)
    u, v = np.ones((extent, extent)), np.zeros((extent, extent))
    side = max(2, extent // 16)
    for top, left in rng.integers(0, extent - side, (5, 2)):
        u[top : top + side, left : left + side] = 0.5
        v[top : top + side, left : left + side] = 0.25
    v += rng.uniform(0, 0.01, v.shape)
    stored = []
    for _ in range(frames):
        for _ in range(_STEPS_BETWEEN_FRAMES):
            reaction = u * v * v
            u += _DIFFUSION[0] * laplacian(u) - reaction + _FEED * (1 - u)
            v += _DIFFUSION[1] * laplacian(v) + reaction - (_FEED + _KILL) * v
        stored.append((u.astype(np.float32), v.astype(np.float32)))
    return np.stack([pair[0] for pair in stored]), np.stack([pair[1] for pair in stored])


def laplacian(field: np.ndarray) -> np.ndarray:
    """The five-point Laplacian of a periodic field with a spacing of 1."""
    rows = np.roll(field, 1, 0) + np.roll(field, -1, 0)
    return rows + np.roll(field, 1, 1) + np.roll(field, -1, 1) - 4 * field


def integrate_ks(extent: int, frames: int, seed: int = 0) -> np.ndarray:
    """Return the Kuramoto-Sivashinsky field of each stored moment, float32 ``(t, extent, extent)``, without its mean."""
    wave = 2 * np.pi * np.fft.fftfreq(extent), 2 * np.pi * np.fft.rfftfreq(extent)
    squared = wave[0][:, None] ** 2 + wave[1] ** 2
    denominator = 1 - _KS_STEP * (squared - squared**2)
    field = np.fft.rfft2(np.random.default_rng(seed).uniform(-1, 1, (extent, extent)))
    # Two thirds of the waves, so that the square of the gradient has no aliases.
    is_kept = (abs(wave[0])[:, None] < 2 * np.pi / 3) & (wave[1] < 2 * np.pi / 3)
    stored = []
    for step in range(_KS_FIRST_STEPS + frames * _KS_STEPS_BETWEEN_FRAMES):
        down, across = np.fft.irfft2(1j * wave[0][:, None] * field), np.fft.irfft2(1j * wave[1] * field)
        field = (field - 0.5 * _KS_STEP * np.fft.rfft2(down**2 + across**2) * is_kept) / denominator
        field[0, 0] = 0
        if step >= _KS_FIRST_STEPS and (step - _KS_FIRST_STEPS + 1) % _KS_STEPS_BETWEEN_FRAMES == 0:
            stored.append(np.fft.irfft2(field, (extent, extent)).astype(np.float32))
    return np.stack(stored)

"""Frames of which only the sizes matter: their files do not exist."""

from __future__ import annotations

import ndframes as nf


class SizedFrames(nf.Frames):
    """Images by id, ``(height, width)``; no file is ever opened."""

    def __init__(self, sizes):
        self.sizes = sizes
        super().__init__(backend=None)

    @property
    def image_ids(self):
        return list(self.sizes)

    def build_pathinfo(self, image_id):
        return nf.PathInfo(image_id, (nf.ChannelInfo(f"{image_id}.png"),), shape=self.sizes[image_id])


def sized(*sizes):
    """Frames over images of these sizes, with ids from 0."""
    return SizedFrames(dict(enumerate(sizes)))

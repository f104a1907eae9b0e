"""One item of ``Frames``: an image, a sequence of images, or a video."""

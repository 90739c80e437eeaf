"""Random views of images: crops, movements, colours and blur."""

from neurossl.stimuli.views.augmentation import SIGMA, Draws, Views, default_views

__all__ = ["SIGMA", "Draws", "Views", "default_views"]

"""Random views of images: crops, movements, colours and blur."""

from neurossl.stimuli.views.augmentation import SIGMA, Views
from neurossl.stimuli.views.defaults import default_views

__all__ = ["SIGMA", "Views", "default_views"]

"""The systems of the book. Each module names the chapter that builds it."""

from fmabs_lite.models.autoencoder import AutoEncoder, Prediction, Reconstruction

__all__ = ["AutoEncoder", "Prediction", "Reconstruction"]

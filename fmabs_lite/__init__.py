"""fmabs-lite: visual anomaly detection by feature mimicking with attention."""

from importlib import import_module

__version__ = "0.1.0"

# What a network of one's own needs, and where it lives. Imported when first asked for: the command
# line and the pages that only read records do without torch.
_HOME = {
    "Detector": "detector",
    "Prepared": "detector",
    "Boosted": "mimicry",
    "inconsistency": "mimicry",
    "mimic_loss": "mimicry",
    "ChannelAttention": "attention",
    "SpatialAttention": "attention",
    "SpatioChannelAttention": "attention",
    "fit": "training",
    "collect": "training",
    "evaluate": "training",
    "hybrid_score": "scoring",
    "System": "saving",
    "threshold": "decision",
    "predict": "decision",
    "MVTecAD": "data",
    "Photos": "data",
    "open_data": "data",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"fmabs_lite has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"fmabs_lite.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

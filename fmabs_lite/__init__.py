"""fmabs-lite: visual anomaly detection by feature mimicking with attention."""

__version__ = "0.1.0"

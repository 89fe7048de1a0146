"""The synthetic sets, and the pens that draw them."""

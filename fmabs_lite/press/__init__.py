"""What runs, checks and prints the book; needs the extra `[book]`."""

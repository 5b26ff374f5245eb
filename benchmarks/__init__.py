"""Benchmarks of the targets that the project states; `make bench` runs them."""

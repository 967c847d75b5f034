"""Weights of few bits: the form of every matrix, networks rounded or factored so, and the folder that holds them."""

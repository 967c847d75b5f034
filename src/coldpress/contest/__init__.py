"""Solvers and samplers held against each other: the same instances, equal wall time, one thread, many seeds."""

from coldpress.contest.contestants import CONTESTANTS, Contestant, contestant
from coldpress.contest.run import Cell, cells, instance_of, left_out, play, read, refusals, run
from coldpress.contest.statistics import summary

__all__ = [
    "CONTESTANTS",
    "Cell",
    "Contestant",
    "cells",
    "contestant",
    "instance_of",
    "left_out",
    "play",
    "read",
    "refusals",
    "run",
    "summary",
]

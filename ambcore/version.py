"""The version of everything in this distribution, written here and nowhere else."""

VERSION = "0.2.0"

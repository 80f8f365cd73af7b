"""Clients and servers of the measurements; each is a program of its own, started in a namespace."""

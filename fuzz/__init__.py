"""Fuzzing: whatever bytes come from others, whoever reads them reads them or refuses them, and nothing else happens.

`targets` has one function for each parser, which takes any bytes and raises only on a defect of ours. It is used three
ways: guided by coverage for hours (`make fuzz`, on atheris), by Hypothesis for moments in `make test`, and on the bytes
kept in `corpus`, which are what the guided runs found worth keeping, and every input that ever broke something.
"""

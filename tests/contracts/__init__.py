"""The contracts of this package as tests to inherit: a format is proved by one class for each.

``class TestCrash(BigTiff, CrashContract)`` runs them all; the first base (a `Kind`) says which
writer is meant, and how a stock reader gets at its frames.
"""

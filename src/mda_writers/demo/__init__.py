"""The demo: a real Micro-Manager microscope, simulated by its own demo adapters, is recorded."""

from mda_writers.demo.finding import Finding
from mda_writers.demo.microscope import SEQUENCE, demo_core
from mda_writers.demo.whole_run import DemoResult, run_demo

__all__ = ["SEQUENCE", "DemoResult", "Finding", "demo_core", "run_demo"]

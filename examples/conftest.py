"""Lets the tests here start the real server as the SDK's tests do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sdk/python/tests"))

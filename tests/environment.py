"""Loaded by pytest before Django's settings: tests run on their own data folder, never on a developer's."""

import os
import tempfile

os.environ["OVERREAD_LOCAL"] = "true"
os.environ["OVERREAD_DATA_DIR"] = tempfile.mkdtemp(prefix="overread-tests-")
os.environ.setdefault("OVERREAD_LOG_LEVEL", "WARNING")

"""Loaded by pytest before Django's settings: tests run on their own data, never on a developer's.

DATABASE_URL and REDIS_URL choose other services, as CI does; what a developer's `.env` says of them is left out.
"""

import os
import pathlib
import re
import tempfile

_data_dir = tempfile.mkdtemp(prefix="overread-tests-")
(pathlib.Path(_data_dir) / "static").mkdir()
os.environ["OVERREAD_LOCAL"] = "true"
os.environ["OVERREAD_DATA_DIR"] = _data_dir
os.environ.setdefault("OVERREAD_LOG_LEVEL", "WARNING")
os.environ.setdefault("DATABASE_URL", f"sqlite:///{_data_dir}/overread.sqlite3")
os.environ.setdefault("REDIS_URL", "")
if os.environ["REDIS_URL"]:
    # Each process of a parallel run gets a Redis database of its own.
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    os.environ["REDIS_URL"] = re.sub(r"/\d*$", "", os.environ["REDIS_URL"]) + f"/{number}"

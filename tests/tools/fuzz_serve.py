"""Requests made up from the API's own description, against `hybrid serve` over scripted models: no reply may be a
server error, or differ from the description.

    pip install schemathesis
    python tests/tools/fuzz_serve.py --examples 50

It is no test of the suite: schemathesis is a plugin of pytest, and slows every run of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "hybrid" / "serve")]

from serving import listening, service, tiny  # noqa: E402  from the paths above

# Unknown keys are refused with 422, and "a string" may well be no puzzle: both are no faults of the server.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=50, help="requests for each route and phase")
    options = parser.parse_args()
    with listening(service(tiny(), limit_seconds=0.5)) as address:  # a network that can also score
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"]
        command += ["--checks", CHECKS, "--max-examples", str(options.examples), "--mode", "all"]
        with tempfile.TemporaryDirectory() as folder:  # it leaves a cache where it runs
            return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

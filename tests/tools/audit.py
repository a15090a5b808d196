"""Known vulnerabilities and licences of everything that is installed beside an interpreter.

    make audit
    python tests/tools/audit.py .venv/bin/python      # needs pip-audit and pip-licenses in its own environment

Exit 1 where a package has a known vulnerability, a licence that is unknown or that reaches to what uses it, or where
the package index tells of no package at all.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from typing import Any

NOT_PERMITTED = re.compile(r"UNKNOWN|\bA?GPL|(?<!Lesser )General Public License", re.I)


def output(*command: str) -> Any:
    """The JSON that a command prints, whatever its exit status."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        sys.exit(f"audit: {command[0]}: {(done.stderr.strip().splitlines() or ['printed nothing'])[-1]}")


def vulnerabilities(report: dict[str, list[dict[str, Any]]]) -> tuple[list[str], int]:
    """What to print of pip-audit's report, and how many faults there are."""
    packages = report["dependencies"]
    checked = [package for package in packages if "skip_reason" not in package]
    lines = [f"vulnerabilities: {len(checked)} of {len(packages)} packages looked up"]
    if unknown := [package["name"] for package in packages if "skip_reason" in package]:
        lines.append(f"  not known to the index: {', '.join(unknown)}")
    found = [
        f"  {package['name']} {package['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions'])}"
        for package in checked
        for fault in package["vulns"]
    ]
    return [*lines, *found], len(found) + (not checked)


def licences(report: list[dict[str, str]]) -> tuple[list[str], int]:
    """What to print of pip-licenses's report, and how many packages have a licence that is not permitted."""
    packages = defaultdict(list)
    for package in report:
        packages[package["License"]].append(package["Name"])
    lines = [f"licences of {len(report)} packages"]
    lines += [f"  {licence}: {', '.join(names)}" for licence, names in sorted(packages.items())]
    odd = [name for licence, names in packages.items() if NOT_PERMITTED.search(licence) for name in names]
    return [*lines, *(f"  not permitted: {name}" for name in odd)], len(odd)


def main(python: str) -> int:
    place = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    audit = output("pip_audit", "--path", place.strip(), "--format", "json", "--progress-spinner", "off")
    faults = 0
    for lines, number in (
        vulnerabilities(audit),
        licences(output("piplicenses", "--python", python, "--format", "json")),
    ):
        print("\n".join(lines))
        faults += number
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

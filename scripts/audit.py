"""Asks PyPI's advisories about every package that an installation of minibert brings.

    python scripts/audit.py        (extra: audit)

Asked about are minibert's dependencies and theirs, as installed here, extras left out. The status is 0 only where each of them
was looked up and none has a known hole: where nobody can be asked, pip-audit alone ends well.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ImportError:
    sys.exit("audit: packaging is not installed; it comes with the extra: pip install -e '.[audit]'")


def brought_by(name: str, found: dict[str, str]) -> dict[str, str]:
    """Package -> version of all that `name` needs, itself left out; what this system does not need is not installed."""
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        needed = str(canonicalize_name(requirement.name))
        if needed in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[needed] = distribution(needed).version.partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        brought_by(needed, found)
    return found


def audit(packages: dict[str, str]) -> list[dict[str, Any]]:
    """What pip-audit says of each: name, version, and vulns, or skip_reason where it could not look."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "requirements.txt"
        asked.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(asked), "--no-deps", "--disable-pip", "--format", "json"]
        done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True)
    try:
        told: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        sys.exit(f"audit: pip-audit gives no answer ({last}); it comes with the extra: pip install -e '.[audit]'")
    return told


def main() -> None:
    try:
        packages = brought_by("minibert", {})
    except PackageNotFoundError as error:
        sys.exit(f"audit: {error.name} is not installed; run pip install -e '.[audit]'.")
    told = audit(packages)
    holes = [(one["name"], one["version"], hole) for one in told for hole in one.get("vulns", ())]
    for name, version, hole in holes:
        print(f"{name} {version} has {hole['id']}; mended in {', '.join(hole['fix_versions']) or 'no version yet'}")
    looked_up = {canonicalize_name(one["name"]) for one in told if "vulns" in one}
    unknown = [name for name in packages if name not in looked_up]
    if unknown:
        print(f"could not be looked up: {', '.join(unknown)}")
    print(f"{len(packages)} packages, {len(packages) - len(unknown)} looked up, {len(holes)} known holes")
    sys.exit(bool(holes or unknown))


if __name__ == "__main__":
    main()

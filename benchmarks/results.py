"""Runs a benchmark and writes its output into `docs/results.md`, in place of the section with the same heading.

    python benchmarks/results.py startup
    python benchmarks/results.py pruning digits --seeds 0,1,2

A section that is new goes to the end of the page. Nothing is written when the benchmark fails.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

MISSED = 3  # the exit code of a benchmark that ran and missed its target


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent.parent / "docs" / "results.md")
    parser.add_argument("benchmark", help="the name of the script, without .py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script is given")
    return parser


def placed(page: str, section: str) -> str:
    """The page with the section in place of the one with the same heading, else at the end."""
    section = section.rstrip() + "\n"
    heading = section.partition("\n")[0]
    parts = [part for part in re.split(r"(?m)^(?=## )", page) if part.strip()]
    headings = [part.partition("\n")[0].rstrip() for part in parts]
    if heading in headings:
        parts[headings.index(heading)] = section
    else:
        parts.append(section)
    return "\n".join(part.rstrip() + "\n" for part in parts)


def main() -> None:
    options = arguments().parse_args()
    script = Path(__file__).with_name(f"{options.benchmark}.py")
    if not script.is_file():
        raise SystemExit(f"there is no benchmark {options.benchmark!r}; give the name of a script in {script.parent}")
    command = [sys.executable, str(script), *options.arguments, "--markdown"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode not in (0, MISSED) or not done.stdout.startswith("## "):
        raise SystemExit(f"{script.name} ended with exit code {done.returncode} and no section; nothing was written")
    page = options.into.read_text(encoding="utf-8") if options.into.exists() else "# Results\n"
    options.into.write_text(placed(page, done.stdout), encoding="utf-8")
    print(f"wrote {options.into}")


if __name__ == "__main__":
    main()

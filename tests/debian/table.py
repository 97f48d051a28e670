"""All rows together."""

from __future__ import annotations

from tests.debian import basics, languages, science, servers, shells, threads

CASES = (*basics.CASES, *shells.CASES, *servers.CASES, *languages.CASES, *science.CASES, *threads.CASES)


def packages() -> list[str]:
    """What apt-get must install for every row to run."""
    return sorted({package for case in CASES for package in case.packages.split()})

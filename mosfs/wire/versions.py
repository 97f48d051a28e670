"""Which versions work together."""


def compatible(version: str, other: str) -> bool:
    """Manual, section 4.2.2: nodes work together when the first two digits of their versions agree."""
    return version.split(".")[:2] == other.split(".")[:2]

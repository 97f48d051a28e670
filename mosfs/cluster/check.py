"""Everything that is wrong in the files of ``/etc/mosix``, where `cluster.load` ends at the first thing (mos_checkconf(1))."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence

from mosfs.cluster.address import Resolver, system_resolver, to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import FREEZE_CONF, parse_freezing
from mosfs.cluster.lines import read_text
from mosfs.cluster.load import load, own_address
from mosfs.cluster.local import local_addresses
from mosfs.cluster.mosix_map import Nodes, parse_map, validate_map
from mosfs.cluster.mosrun_conf import MOSRUN_CONF, any_accounts, parse_rules, system_accounts
from mosfs.cluster.partners import PartnerFile, parse_partner, partner_of, valid_name, validate_partners
from mosfs.cluster.paths import NodePaths
from mosfs.cluster.private_conf import parse_private, validate_private
from mosfs.cluster.scalars import parse_guest_uids, parse_level, parse_max_guests, parse_mosip, parse_retain, parse_speed
from mosfs.cluster.secret import read_secret
from mosfs.cluster.userview import parse_userview, validate_userview

#: A file with more wrong lines than this is another file.
MOST_FAULTS = 100

#: What reads the text of a file, and checks what can be checked in that file alone.
Check = Callable[[str, str, Resolver], object]

#: By name below ``/etc/mosix``; the secret is read differently, and those of partners/ have names of their own.
CHECKS: dict[str, Check] = {
    "mosix.map": lambda text, file, resolver: validate_map(parse_map(text, file), resolver, file, lambda address: True),
    "userview.map": lambda text, file, resolver: validate_userview(parse_userview(text, file), resolver, file),
    "speed": lambda text, file, _: parse_speed(text, file),
    "mosip": lambda text, file, _: parse_mosip(text, file),
    "private.conf": lambda text, file, _: validate_private(parse_private(text, file), file),
    "guestuids": lambda text, file, _: parse_guest_uids(text, file),
    "cpu": lambda text, file, _: parse_level(text, file),
    "maxguests": lambda text, file, _: parse_max_guests(text, file),
    "retainpri": lambda text, file, _: parse_retain(text, file),
    FREEZE_CONF: lambda text, file, _: parse_freezing(text, file),
    MOSRUN_CONF: lambda text, file, _: parse_rules(text, file),
}
#: What has one value; the others have lines.
ONE_VALUE = frozenset({"speed", "mosip", "guestuids", "cpu", "maxguests", "retainpri"})
SECRET, PARTNERS = "secret", "partners"
#: Without these there is no cluster.
NEEDED = ("mosix.map", SECRET)


def faults(
    paths: NodePaths,
    resolver: Resolver = system_resolver,
    local: Callable[[], Sequence[str]] | None = local_addresses,
) -> list[ConfigError]:
    """What is wrong in the files below ``paths``, each for itself and all together; none: mosd accepts them.

    ``local``: the addresses of the machine, None for a root image, which is not this machine's.
    """
    found: list[ConfigError] = []
    texts: dict[str, str] = {}
    for file in _files(paths):
        wrong = file_faults(file, resolver)
        found += wrong
        if not wrong and os.path.basename(file) != SECRET:
            texts[file] = read_text(file)
    if os.path.isdir(paths.partners) and not os.access(paths.partners, os.R_OK | os.X_OK):
        found.append(ConfigError(paths.partners, os.strerror(errno.EACCES)))
    found += [] if paths.mosix_map not in texts else _together(paths, texts, resolver, local)
    if not found:
        try:
            whose = local or (lambda: [_first_node(texts[paths.mosix_map], resolver)])
            load(paths, resolver, whose, accounts=any_accounts if local is None else system_accounts)
        except ConfigError as error:
            found.append(error)
    return found


def file_faults(file: str, resolver: Resolver = system_resolver) -> list[ConfigError]:
    """What is wrong in one file, whose kind is told by `kind`; a file that is not there is wrong."""
    try:
        if kind(file) == SECRET:
            read_secret(file)
            return []
        text = read_text(file)
    except ConfigError as error:
        return [error]
    except OSError as error:
        return [ConfigError(file, error.strerror or str(error))]
    check = CHECKS.get(kind(file), _partner)
    return _each({file: text}, lambda texts: [check(text, name, resolver) for name, text in texts.items()])


def kind(file: str) -> str:
    """What ``file`` is: a key of `CHECKS`, `SECRET` or `PARTNERS`; "" when its path does not tell."""
    folder, name = os.path.split(os.path.abspath(file))
    if os.path.basename(folder) == PARTNERS:
        return PARTNERS if valid_name(name) else ""
    return name if name in CHECKS or name == SECRET else ""


def _files(paths: NodePaths) -> list[str]:
    """The files that mosd reads: those that are there, and those that must be."""
    names = [os.path.join(paths.etc, name) for name in (*CHECKS, SECRET)]
    found = [file for file in names if os.path.basename(file) in NEEDED or os.path.lexists(file)]
    folder = paths.partners
    if os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK):
        found += [f"{folder}/{name}" for name in sorted(filter(valid_name, os.listdir(folder))) if _is_partner(f"{folder}/{name}")]
    return found


def _is_partner(file: str) -> bool:
    """A directory is not read, and neither is what is no file (`load.read_partners`)."""
    return os.path.isfile(file)


def _together(
    paths: NodePaths, texts: Mapping[str, str], resolver: Resolver, local: Callable[[], Sequence[str]] | None
) -> list[ConfigError]:
    """What is wrong between files of which each is right: ``texts``, by path, at least mosix.map."""
    lines = parse_map(texts[paths.mosix_map], paths.mosix_map)
    own = validate_map(lines, resolver, paths.mosix_map, lambda address: True)
    found = []
    partners = {file: text for file, text in texts.items() if kind(file) == PARTNERS}
    between = _each(partners, lambda left: validate_partners(_parsed(left), own, resolver, paths.partners))
    found += between
    if not between:
        valid = validate_partners(_parsed(partners), own, resolver, paths.partners)
        found += _each({paths.mosix_map: texts[paths.mosix_map]}, lambda left: validate_map(
            parse_map(left[paths.mosix_map], paths.mosix_map), resolver, paths.mosix_map,
            lambda address: partner_of(valid, address) is not None,
        ))
    return found + _own(paths, texts.get(paths.mosip), own, local)


def _own(paths: NodePaths, mosip: str | None, own: Nodes, local: Callable[[], Sequence[str]] | None) -> list[ConfigError]:
    """Is it known which node this is? A root image is several nodes, unless it has a mosip; a wrong one is told already."""
    if mosip is None and (local is None or os.path.lexists(paths.mosip)):
        return []
    try:
        own_address(own, mosip, local or list, paths.mosip)
    except ConfigError as error:
        return [error]
    return []


def _each(texts: Mapping[str, str], check: Callable[[Mapping[str, str]], object]) -> list[ConfigError]:
    """All errors of ``check``, which ends at the first one: each line that is wrong is taken out, and it is asked again."""
    left = dict(texts)
    found: list[ConfigError] = []
    while left and len(found) < MOST_FAULTS:
        try:
            check(left)
            break
        except ConfigError as error:
            known = any(error.file == earlier.file for earlier in found)
            if error.line is not None or not known:  # "no nodes" behind wrong lines is their consequence
                found.append(error)
            if error.file not in left:
                break
            what, rest = kind(error.file), None
            if error.line is not None and what not in ONE_VALUE:
                rest = without_line(left[error.file], error.line, what == PARTNERS)
            if rest is None:
                del left[error.file]
            else:
                left[error.file] = rest
    return sorted(found, key=lambda error: (error.file, error.line or 0))


def without_line(text: str, number: int, partner: bool = False) -> str | None:
    """``text`` without what the line ``number`` says, all lines keeping their numbers; None when nothing can stand in its place,
    or it said nothing."""
    lines = text.split("\n")
    if not 0 < number <= len(lines) or lines[number - 1].startswith("#"):
        return None
    before = lines[1:number - 1] if partner else []
    relation = partner and number > 1 and not any(line.strip() and not line.strip().startswith("#") for line in before)
    lines[number - 1] = "50 1 1" if relation else "#"
    return "\n".join(lines)


def _parsed(texts: Mapping[str, str]) -> dict[str, PartnerFile]:
    return {os.path.basename(file): parse_partner(text, file) for file, text in texts.items()}


def _partner(text: str, file: str, resolver: Resolver) -> object:
    """The partner alone; that it has nodes and where they are belongs to the check of all together."""
    return parse_partner(text, file)


def _first_node(text: str, resolver: Resolver) -> str:
    return to_ip(validate_map(parse_map(text), resolver, partner=lambda address: True).ranges[0].first)

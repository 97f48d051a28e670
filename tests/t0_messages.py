"""Every message of the manual, section 10.5: a test provokes it, or it is said here why none can.

`PROVOKED` names the test of each text; the test must exist and mention the text, by its name in the table or by its words.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import resource
from pathlib import Path
from string import Formatter

import pytest

from mosfs.abi.texts import Text, Where, text
from mosfs.home.start import why_not_seized
from mosfs.migrate.maps import CannotMove, read_maps

PROVOKED = {
    Text.SYSCALL: "t5_limits.test_w_prints_a_message_each_time",
    Text.MAP_SHARED: "t5_limits.test_a_program_that_meets_an_unsupported_feature_terminates",
    Text.SHMAT: "t5_limits.test_a_program_that_meets_an_unsupported_feature_terminates",
    Text.PRCTL: "t5_limits.test_w_prints_a_message_each_time",
    Text.IOCTL: "t5_limits.test_w_prints_a_message_each_time",
    Text.MAP_DEVICE: "t5_limits.test_mapping_a_device",
    Text.ILLEGAL_CALL: "t5_limits.test_a_program_that_meets_an_unsupported_feature_terminates",
    Text.NO_PTRACE: "t0_messages.test_why_a_program_cannot_be_traced",
    Text.NO_MEMORY: "t5_limits.test_a_program_without_room_for_us_runs_natively",
    Text.HIGH_DESCRIPTOR: "t1_launcher.test_too_high_a_descriptor",
    Text.NO_MAPS: "t0_messages.test_maps_that_cannot_be_read",
    Text.TOO_SECURE: "t0_messages.test_why_a_program_cannot_be_traced",
    Text.MIGRATE_FAILED: "t5_commands.test_a_node_that_is_not_in_the_map",
    Text.LOST: "t5_faults.test_fault",
    Text.KILLED_MIGRATING: "t5_faults.test_fault",
    Text.COMPROMISED: "t1_channel.test_frames_of_another_key",
    Text.AUTHENTICATION: "t1_peers.test_wrong_secret",
    Text.INCOMPATIBLE: "t1_peers.test_incompatible_version",
    Text.BITS_32: "t1_launcher.test_a_32_bit_program_runs_natively",
    Text.SEEMS_DEAD: "t5_limits.test_a_home_that_is_lost",
    Text.INVALID_DIRECTORY: "t5_private.test_refusals",
    Text.DISALLOWED_DIRECTORY: "t5_private.test_refusals",
    Text.TOO_MANY_DIRECTORIES: "t5_private.test_refusals",
    Text.LONG_DIRECTORY: "t5_private.test_refusals",
    Text.NO_PRIVATE_SPACE: "t5_private.test_too_big_for_home_stays_away_and_says_so",
    Text.BAD_CHECKPOINT: "t5_checkpoints.test_damaged_files",
    Text.NO_RESTART: "t5_checkpoints.test_what_is_gone",
    Text.CHECKPOINT_FILE: "t5_checkpoints.test_what_is_gone",
    Text.NO_DESCRIPTOR: "t5_checkpoints.test_what_is_gone",
    Text.NOT_OPEN: "t5_checkpoints.test_inspection_and_other_files",
    Text.RESTORE_FAILED_WHY: "t5_checkpoints.test_a_folder_that_is_gone",
    Text.UNFREEZE_FAILED: "t5_freezing_faults.test_a_file_that_cannot_be_read_ends_it",
    Text.REFREEZING: "t5_freezing_faults.test_unfreezing_fails_and_the_program_is_frozen_again",
    Text.NO_FREEZE_SPACE: "t5_freezing_faults.test_no_space_to_freeze",
    Text.BROKEN_LINE: "t5_queue.test_lines_that_are_too_long_or_broken",
    Text.COMMANDS_CHANGED: "t5_queue.test_a_commands_file_that_changes",
    Text.FAIL_FILE: "t5_queue.test_a_failed_commands_file_that_cannot_be_written",
    Text.NO_LZOP: "t0_checkpoints.test_compressed_without_lzop",
    Text.NO_WRITE_ACCESS: "t5_checkpoints.test_a_folder_that_cannot_be_written",
}

_LATER = {
    Where.OBSOLETE: "there are no batch jobs any more (readings, row 2)",
}
#: Why a text cannot occur.
NEVER = {
    Text.IPC: "x86_64 has no ipc(2): each of its calls has a number and is refused by its name",
    Text.SYSFS: "sysfs(2) is served by the home-node's kernel, which answers EINVAL to other options",
    Text.SYSFS_NAME: "sysfs(2) has no size that a program could give; longer names than 512 bytes do not exist",
    Text.PRIORITY: "getpriority and setpriority are served for any process",
    Text.NOFILE_IGNORED: "setrlimit(RLIMIT_NOFILE) is served",
    Text.RESTORE_FAILED: "every failure has a reason, which is said (RESTORE_FAILED_WHY)",
    Text.DECOMPRESS_FAILED: "freeze files are not compressed, so that no other process is needed to read them",
    Text.NO_MEM_FILE: "memory is read by process_vm_readv(2); a failure of /proc/PID/mem ends only that move",
    Text.TOO_BUSY: "a node that does not want a program answers, and MIGRATE_FAILED says \"other node refused\"",
}


def words(which: Text) -> list[str]:
    """The parts of a text between its fields."""
    return [part.strip() for part, *_ in Formatter().parse(which.format_string) if len(part.strip()) > 3]


def test_every_message_is_accounted_for() -> None:
    later = {which for which in Text if which.where in _LATER}
    accounts = [*PROVOKED, *NEVER, *(later - set(PROVOKED))]
    assert sorted(accounts, key=lambda which: which.name) == sorted(Text, key=lambda which: which.name)
    assert all(NEVER.values())


@pytest.mark.parametrize("which", PROVOKED, ids=lambda which: which.name)
def test_the_provoking_test_is_there(which: Text) -> None:
    module_name, _, test = PROVOKED[which].partition(".")
    module = importlib.import_module(f"tests.{module_name}")
    assert callable(getattr(module, test))
    source = inspect.getsource(module)
    assert f"Text.{which.name}" in source or all(part in source for part in words(which)), "the test does not know it"


def test_each_text_stands_in_the_table_only() -> None:
    """But for the launcher, which cannot afford to import it: `tools.text`, which the tests of the launcher compare."""
    root = Path(__file__).parent.parent
    sources = {path: path.read_text() for path in (root / "mosfs").rglob("*.py") if path.name not in ("texts.py", "compat.py")}
    for which in Text:
        longest = max(words(which), key=len)
        found = [path.name for path, source in sources.items() if f'"{longest}' in source and "tools" not in path.parts]
        assert found == [], which.name


@pytest.mark.parametrize(("number", "which"), [
    (errno.EIO, Text.NO_PTRACE), (errno.EINVAL, Text.NO_PTRACE), (errno.EPERM, Text.TOO_SECURE), (errno.ENOMEM, Text.NO_MEMORY),
])
def test_why_a_program_cannot_be_traced(number: int, which: Text) -> None:
    assert why_not_seized(OSError(number, os.strerror(number))) == text(which)
    assert why_not_seized(OSError(errno.ESRCH, "No such process")) == "[Errno 3] No such process"


def test_maps_that_cannot_be_read() -> None:
    """The tracer is out of descriptors."""
    child = os.fork()
    if not child:
        code = 1
        try:
            assert read_maps(os.getpid())
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            read_maps(os.getpid())
        except CannotMove as reason:
            code = 0 if str(reason) == f"{text(Text.NO_MAPS)} (Too many open files)" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

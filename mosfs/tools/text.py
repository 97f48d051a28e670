"""What the commands say: the manual's own words where it has them (chapter 10.5), one place for all of them.

Fields in braces are filled in by the caller with str.format. Imported only on the way to a message, so that a normal
start does not pay for it.
"""

FILE_DESCRIPTOR = "File-descriptor #{number} is open (only 1024 files supported under MOSIX)"
PROGRAM_32BIT = "{program} is a 32-bit program - will run in native Linux mode"
FAILED_MIGRATING = "failed migrating to {computer}: {reason}"
NOT_IN_MAP = "not in map"
CORRUPT = "Corrupt or improper checkpoint file"
NO_FILE = "Checkpoint file {filename}: {reason}"
NO_RESTART = "Could not restart with {filename}: {reason}"
NOT_OPEN = "File-descriptor {number} was not open at the time of checkpoint!"
NO_LZOP = "checkpoint file is compressed - but no /usr/bin/lzop here!"
NO_WRITE_ACCESS = "WARNING: no write-access in checkpoint directory!"

# Ours: the manual is silent.
NOT_RUNNING = "MOSIX is not running on this computer (no mosd answers at {socket}): run mosd(8)"
NO_ANSWER = "mosd went away before it answered"
NO_PROGRAM = "which program?"
NO_GUEST = "{pid}: is not a guest of this node"
NO_SUCH_PROCESS = "{pid}: no such MOSIX process"
PERMISSION = "{pid}: Permission denied"
ENDED = "{pid}: the process ended before it moved"
ENDED_UNSAVED = "{pid}: the process ended before its checkpoint"
NO_CHECKPOINT = "{pid}: no checkpoint: {reason}"
ENDED_UNFROZEN = "{pid}: the process ended meanwhile"
NOT_FROZEN = "{pid}: not frozen: {reason}"
NOT_CONTINUED = "{pid}: not un-frozen: {reason}"
LATER = "{what} is not available yet"

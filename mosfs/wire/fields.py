"""What a field of a message may hold: what comes in from outside is never out of range behind `messages.decode_control`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, MsgspecError

#: All that msgspec raises for bytes that are not what they should be: RecursionError where something is nested too deeply, also in
#: a place that no field has and that is passed over.
MALFORMED = (MsgspecError, ValueError, RecursionError)
#: The longest message of the control socket, bytes.
MAX_CONTROL = 64 * 1024
#: Limits of Linux: pid_max (proc(5)), uid_t, comm with room for what is no ASCII, NAME_MAX and PATH_MAX.
MAX_PID, MAX_ID, MAX_COMM, MAX_NAME, MAX_PATH = 2**22, 2**32 - 1, 64, 255, 4096
#: One message of a mailbox (`mbox.filters.MAX_MESSAGE`), and the most that a stream reads at once.
MAX_MAIL = 32 << 20
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

Ip = Annotated[str, Meta(max_length=15, pattern=rf"^({_OCTET}(\.{_OCTET}){{3}})?\Z")]  #: "" where the field's text allows it
Address = Annotated[int, Meta(ge=0, le=2**32 - 1)]  #: an IP as an unsigned integer in host order
Port = Annotated[int, Meta(ge=0, le=65535)]
Pid = Annotated[int, Meta(ge=0, le=MAX_PID)]
Id = Annotated[int, Meta(ge=0, le=MAX_ID)]  #: of a user or group
MaybeId = Annotated[int, Meta(ge=-1, le=MAX_ID)]  #: -1 for none
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]  #: a request's, a move's
Megabytes = Annotated[int, Meta(ge=0, le=2**40)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Load = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Fd = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Amount = Annotated[float, Meta(ge=0, le=1e18)]  #: seconds, bytes, calls; neither infinite nor NaN
Comm = Annotated[str, Meta(max_length=MAX_COMM)]
Path = Annotated[str, Meta(max_length=MAX_PATH)]
RawPath = Annotated[bytes, Meta(max_length=MAX_PATH)]
Name = Annotated[str, Meta(max_length=MAX_NAME)]
Reason = Annotated[str, Meta(max_length=4096)]  #: a line for people
Features = Annotated[str, Meta(max_length=16384)]
Preset = Annotated[list[Annotated[str, Meta(max_length=2048)]], Meta(max_length=16)]
Feature = Annotated[str, Meta(max_length=24, pattern=r"^[a-z0-9_]*\Z")]  #: of a processor, as /proc/cpuinfo names it
Needs = Annotated[list[Feature], Meta(max_length=128)]
Version = Annotated[str, Meta(max_length=64)]
Secret = Annotated[bytes, Meta(max_length=32)]  #: a key or token
Mail = Annotated[int, Meta(ge=0, le=MAX_MAIL)]
Result = Annotated[int, Meta(ge=-4095, le=MAX_MAIL)]  #: of a read or write: bytes, or a negative errno value
MailName = Annotated[bytes, Meta(max_length=64)]
Inline = Annotated[bytes, Meta(max_length=MAX_CONTROL)]
Switch = Annotated[int, Meta(ge=-1, le=1)]
NeedMem = Annotated[int, Meta(ge=-1, le=262143)]  #: megabytes
Decay = Annotated[int, Meta(ge=-1, le=10000)]  #: the fraction of 10000 that is kept a second

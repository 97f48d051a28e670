"""Socket options whose memory is not what its length in bytes says: counted otherwise, or pointing to more memory.

Sources: socket(7), packet(7), tcp(7), bpf(2), linux/filter.h, linux/netfilter_ipv4/ip_tables.h, linux/sctp.h, linux/rds.h,
linux/if_xdp.h, linux/mptcp.h.
"""

from __future__ import annotations

SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6, SOL_SCTP, SOL_PACKET, SOL_RDS, SOL_XDP, SOL_MPTCP = (
    0, 1, 6, 17, 41, 132, 263, 276, 283, 284,
)  # fmt: skip

#: (level, option) of setsockopt -> struct sock_fprog, 16 bytes: {u16 count, pointer at 8 to count times 8 bytes}.
PROGRAMS = {
    (SOL_SOCKET, 26): "SO_ATTACH_FILTER", (SOL_SOCKET, 51): "SO_ATTACH_REUSEPORT_CBPF", (SOL_PACKET, 22): "PACKET_FANOUT_DATA",
}  # fmt: skip
PROGRAM_SIZE, INSTRUCTION = 16, 8

#: (level, option) of getsockopt -> bytes of what its length counts.
COUNTED = {(SOL_SOCKET, 26): INSTRUCTION}  # SO_GET_FILTER

#: Levels whose other options are known to count bytes.
BYTES = frozenset({SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6})

#: Those that may fill more than they are told: an array whose entries have that size.
ARRAYS = {(SOL_TCP, 41): "TCP_AO_GET_KEYS"}

#: (level, option) that point to memory which nothing here describes.
UNSERVED_SET = {
    (SOL_IP, 64): "IPT_SO_SET_REPLACE", (SOL_IPV6, 64): "IP6T_SO_SET_REPLACE", (SOL_IP, 96): "ARPT_SO_SET_REPLACE",
    (SOL_IP, 128): "EBT_SO_SET_ENTRIES", (SOL_IP, 129): "EBT_SO_SET_COUNTERS", (SOL_RDS, 2): "RDS_GET_MR",
    (SOL_RDS, 7): "RDS_GET_MR_FOR_DEST", (SOL_XDP, 4): "XDP_UMEM_REG",
}  # fmt: skip
UNSERVED_GET = {
    (SOL_IP, 129): "EBT_SO_GET_ENTRIES", (SOL_IP, 131): "EBT_SO_GET_INIT_ENTRIES", (SOL_TCP, 35): "TCP_ZEROCOPY_RECEIVE",
    (SOL_SCTP, 111): "SCTP_SOCKOPT_CONNECTX3", (SOL_MPTCP, 4): "MPTCP_FULL_INFO",
}  # fmt: skip

"""mosfs: MOSIX 4 as a file-system layer. Programs started by ``mosrun`` run and move anywhere in a cluster.

The folders, read in the order of the import law (`docs/design/layout.md`), are the flow of one system call::

    abi -> wire -> trace, cluster, balance -> calls -> migrate, procfs, mbox, ptf -> home, guest, fuse
        -> daemon -> tools
"""

__version__ = "0.2.0"

"""Private temporary files (mosrun -X): small worlds of regular files that belong to one process and move with it.

    directories   which names are private; what -X may be given
    rules         what each system call means for a private file: one table
    store         the files of one process: names, contents, limits
    service       carries out a call on a store, for the home-node and for guests alike
    travel        files on the wire: chunks and manifest

None of them traces anything: `home.asks.private` and `guest.private` do (docs/design/private-files.md).
"""

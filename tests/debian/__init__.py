"""Ordinary Debian programs, and what each must give at home, away and in motion: exactly what it gives natively.

    cases.py      what a row of the tables is          compare.py    how a row is run, and the table of run times
    basics.py     coreutils, text, archives            shells.py     shells, terminals, daemons, sockets
    languages.py  interpreters and compilers           science.py    data bases, mathematics, sequences, pictures
    threads.py    threads, and what only --stay-home runs

    python -m tests.debian [-p PLACE,...] [NAME...]     run rows for the lab that is up, one line each, with ratios
    python -m tests.debian --packages                   the Debian packages that the rows need
"""

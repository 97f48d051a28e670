"""Benchmarks: figures as ratios against references of the same run (`python -m bench`, `make bench`).

    __main__    options, the table, --json
    figures     which figures there are: H1 ... H7 at home, A1, A2 away, M1, M2, M3 moving
    measure     interleaved runs, medians, ratios
    bed         what is measured on: a lab of two nodes, the compiled helpers (*.c)
"""

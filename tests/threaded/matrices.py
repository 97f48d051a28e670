"""Products and decompositions by as many threads as the library likes."""

import sys

import numpy as np

chance = np.random.default_rng(1)
for r in range(int(sys.argv[1])):
    a = chance.integers(0, 50, (300, 300)).astype(float)
    product = a @ a.T
    values = np.linalg.eigvalsh(product)
    solved = np.linalg.solve(product + np.eye(300), a)
    print(r, int(product.sum()), round(float(values[-1]), 2), round(float(np.abs(solved).max()), 6))

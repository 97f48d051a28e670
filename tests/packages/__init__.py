"""Fresh Debian roots in name spaces of their own, for what `t6_packages.py` tries of the package: `roots` makes them."""

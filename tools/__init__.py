"""What a checkout is checked, completed and packed with (`make check`, `make deb`). The commands are in `mosfs.tools`."""

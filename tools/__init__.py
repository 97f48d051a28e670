"""The commands, one file each (installed as mosfs.tools.*), the demonstration and the project's own checks."""

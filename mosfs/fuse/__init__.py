"""The one mount of a node: pyfuse3 handlers over `procfs.tree`. No handler waits (docs/design/protocols.md)."""

"""The private queue, mosrun -S (docs/design/queue.md): standard library alone, and nothing of the daemon."""

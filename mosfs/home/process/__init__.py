"""One program, and what can be done with its task alone: its records, its deputy, registers, descriptors. Knows no tracer."""

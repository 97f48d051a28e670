"""What tracer and host have in common as processes: one event loop over tasks and descriptors, the link to mosd, clock pages."""

"""Facts about the kernel's interface: numbers, flags, structure layouts, texts. No behaviour, no imports of ours."""

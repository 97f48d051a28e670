"""Moving a program: who decides each step, how it leaves, how it comes home, and what of it goes ahead."""

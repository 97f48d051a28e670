"""What programs ask of MOSIX by their calls at home: opens, control calls, unsupported calls, messages, private files."""

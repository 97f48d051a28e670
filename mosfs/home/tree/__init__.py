"""What a tracer keeps of its whole tree, wherever the programs are: troubles, traces of calls, statistics, CPU time."""

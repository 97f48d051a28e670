"""A program under ptrace: stops, registers, memory, injected calls, the seccomp filter.

::

    task.Task      one traced process: peek_* (it must be stopped), read/write memory, resume
    inject.Calls   system calls made inside a stopped task, through its stub page
    filter         the BPF programs of home and guest, compiled from the table of system calls
    clock          the data page of our vDSO
    stops          wait statuses turned into a closed set of stops

Ordering: a task is touched only between its stop and the next resume, and only by the process that seized it.
"""

"""Serving programs that are away: frames of their hosts, their deputies, what these wait for, the files that they map."""

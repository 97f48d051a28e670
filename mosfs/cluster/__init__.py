"""The administrator's files: what they are called, what they may say, and what they mean together.

    text --parse--> lines --validate (with a resolver)--> ClusterMap, UserView, secret, speed, own address --> Cluster

Parsers, printers and validators are pure: file names come in only to be named in errors, host names are looked up by a
function that the caller hands in. `load` is the one place that reads files. Whatever is wrong is a `ConfigError`: one
line with file, line and value. Formats: mosix(7), CONFIGURATION.
"""

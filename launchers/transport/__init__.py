"""How one speaks to a machine: ssh sessions, the log by byte offset, files verified by digest. Knows no provider."""

"""Protocols: experiments that a person runs, reads and copies; and the command line."""

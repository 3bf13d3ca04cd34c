"""Sources that only their own framework can read: each in a child process, behind one small protocol.

`worker.py` starts a child and talks to it, `wire.py` frames the messages, `*_worker.py` are what the
children run, `reading.py` makes a `Source` of the answers. TensorFlow and PyTorch are never imported
by the converter's own process: their memory, threads, logs and faults stay outside, and end with it.
"""

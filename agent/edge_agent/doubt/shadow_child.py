"""The child process of a shadow: of the lowest priority from its first import on, else as any model's child.

Before the exec of the interpreter nothing could be asked of a portable parent, and after the runtime
has started its threads it would be too late: on Linux a nice value belongs to a thread.
"""

import os

os.nice(19)  # above all imports: they are most of what a start costs

from edge_agent.inference import child  # noqa: E402

if __name__ == "__main__":
    child.main()

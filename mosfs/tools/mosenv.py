"""mosenv: mosrun(1) by the name that scripts use where LD_LIBRARY_PATH or MALLOC_CHECK_ must reach the program.

Our mosrun is not set-uid, so that nothing is ever lost: both are the same.
"""

import sys

from mosfs.tools.mosrun import main_env as main

if __name__ == "__main__":
    sys.exit(main())

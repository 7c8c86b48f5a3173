"""From an address on the web to a file and where it came from."""

import sys
from pathlib import Path

# yt-dlp looks for plugins in the folders of sys.path only, where an editable install of this program does not stand
_HOME = str(Path(__file__).resolve().parents[2])
if _HOME not in sys.path:
    sys.path.append(_HOME)

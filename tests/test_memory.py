import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from catalog.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(20):  # the first ones settle where the blocks lie
    bytearray(b"1") * (64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(b"1") * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_an_array_that_is_freed_gives_its_memory_to_the_next() -> None:
    """Twenty times 64 MB: anew from the system they are pages of 4 KB or huge ones, many each time; kept, none."""
    assert faults("kept") < 20 < 600 < faults("given back")

"""What joint generation (`ccl`) and audio-driven video (`mtv`) both stand on."""

PROJECT = "ccl"  # whose `shared` it is: `ccl` and `mtv` refuse another

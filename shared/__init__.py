"""What joint generation (`ccl`) and audio-driven video (`mtv`) both stand on."""
